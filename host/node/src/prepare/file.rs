//! What the config file says of policies and settings, and when it counts: only where it says something else than the last
//! time (PROTOCOLS 11.12, 12.2). Otherwise the log wins.

use kernel::command::{Operation, Operator, SettingChange};
use kernel::decide::Slot;

use super::{Outcome, Policies, PolicyError, Reload, digest_of, memory_words, words};
use crate::builtin;
use crate::config::{Component, Config, PolicySource};

impl Policies {
    /// Takes what the config says of policies and settings where it says something new (PROTOCOLS 11.12, 12.2). In a group of
    /// more than one super files decide nothing: where one says otherwise than the cluster, that is said.
    ///
    /// # Errors
    /// As [`Policies::swap`].
    pub async fn take_file(&self, config: &Config) -> Result<Reload, PolicyError> {
        let _turn = self.inner.turn.lock().await;
        if self.inner.group.members()?.len() > 1 {
            return self.compare_file(config).await;
        }
        let (settings, settings_refused) = self.take_settings(&config.settings_said).await?;
        let mut slots = Vec::new();
        for (slot, source) in &config.policies {
            let outcome = self.take_slot(*slot, source).await?;
            report(*slot, source, &outcome);
            slots.push((*slot, outcome));
            self.last_resort(*slot).await?;
        }
        Ok(Reload { slots, settings, settings_refused })
    }

    /// Says where the file says otherwise than the cluster.
    async fn compare_file(&self, config: &Config) -> Result<Reload, PolicyError> {
        let other: Vec<_> = self.inner.group.read(|state| {
            let value = |key: &str| state.meta.settings.value(key);
            let said = config.settings_said.iter().map(|(key, said)| (key, said, value(key)));
            said.filter_map(|(key, said, value)| {
                Some((key.clone(), said.clone(), value.filter(|value| value != said)?))
            })
            .collect()
        });
        for (key, file, cluster) in &other {
            tracing::warn!(
                key,
                file,
                cluster,
                "the config file says otherwise than the cluster, which counts: `pingward cluster set {key} {file}` changes it"
            );
        }
        let mut slots = Vec::new();
        for (slot, source) in &config.policies {
            let Ok(bytes) = self.read_source(source).await? else { continue };
            let file = digest_of(&bytes, &source.config);
            let row = self.inner.group.read(|state| state.slot(*slot).row.clone());
            let goal = row.scheduled.map_or(row.active, |scheduled| scheduled.policy);
            let outcome = match goal {
                Some(goal) if goal == file => Outcome::Unchanged { policy: file },
                Some(_) | None => Outcome::LogWins { file, active: row.active },
            };
            report(*slot, source, &outcome);
            slots.push((*slot, outcome));
        }
        Ok(Reload { slots, settings: Vec::new(), settings_refused: None })
    }

    async fn take_slot(&self, slot: Slot, source: &PolicySource) -> Result<Outcome, PolicyError> {
        let bytes = match self.read_source(source).await? {
            Ok(bytes) => bytes,
            Err(refused) => return Ok(refused),
        };
        let file = digest_of(&bytes, &source.config);
        let row = self.inner.group.read(|state| state.slot(slot).row.clone());
        let decides = |policy| row.active == policy || row.scheduled.is_some_and(|s| s.policy == policy);
        if row.file_said == Some(file) {
            return Ok(if decides(Some(file)) {
                Outcome::Unchanged { policy: file }
            } else {
                Outcome::LogWins { file, active: row.active }
            });
        }
        let outcome = self.bring(slot, source, bytes, Operator::File).await?;
        match outcome {
            Outcome::Unchanged { .. } | Outcome::Scheduled(_) => {
                self.operate(Operator::File, "config file", Operation::FileSaid { slot, policy: file }).await?;
            }
            // The file is to be looked at again when it is mended.
            Outcome::Refused { .. } | Outcome::LogWins { .. } => {}
        }
        Ok(outcome)
    }

    /// Settings that the file says otherwise than the last time.
    async fn take_settings(&self, said: &[(String, String)]) -> Result<(Vec<String>, Option<String>), PolicyError> {
        let new: Vec<String> = self.inner.group.read(|state| {
            let before = &state.meta.file_settings;
            let new = said.iter().filter(|one| !before.contains(one));
            let new = new.filter(|(key, value)| state.meta.settings.value(key).as_ref() != Some(value));
            new.map(|(key, value)| format!("{key} = {value}")).collect()
        });
        let said = said.iter().map(|(key, value)| SettingChange { key: key.clone(), value: value.clone() }).collect();
        match self.operate(Operator::File, "config file", Operation::FileSettings(said)).await {
            Ok(_) => Ok((new, None)),
            Err(PolicyError::Rejected { reject, .. }) => {
                let why = words(&reject);
                tracing::warn!(why, "the cluster keeps its settings");
                Ok((Vec::new(), Some(why)))
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps the builtin staged, with its own config: an automatic return ends there when there is nothing else to return
    /// to, and a config that fails must not be the way out of its own faults.
    async fn last_resort(&self, slot: Slot) -> Result<(), PolicyError> {
        let builtin = builtin::of(slot);
        let source =
            PolicySource { component: Component::Builtin(builtin.name.to_owned()), config: builtin.config.to_owned() };
        let Ok(bytes) = self.read_source(&source).await? else { return Ok(()) };
        let policy = digest_of(&bytes, &source.config);
        if self.inner.group.read(|state| state.slot(slot).row.builtin) == Some(policy) {
            return Ok(());
        }
        let staged = self.inner.group.read(|state| state.policies.contains_key(&policy));
        if !staged && let Err(findings) = self.stage(slot, bytes, &source.config, Operator::File).await? {
            tracing::warn!(slot = slot.name(), ?findings, "the builtin policy is not admitted under these settings");
            return Ok(());
        }
        self.operate(Operator::File, "builtin", Operation::SetBuiltin { slot, policy }).await?;
        Ok(())
    }
}

/// Tells the log what became of a slot.
fn report(slot: Slot, source: &PolicySource, outcome: &Outcome) {
    let (slot, component) = (slot.name(), source.component.to_string());
    match outcome {
        Outcome::Unchanged { policy } => tracing::info!(slot, component, %policy, "policy unchanged"),
        Outcome::LogWins { file, active } => {
            let active = active.map(|active| active.to_string());
            let active = active.as_deref().unwrap_or("none");
            tracing::warn!(
                slot, component, %file, active,
                "the cluster has decided otherwise than the file: the log wins; `pingward policy` changes what decides, and in a group of one a change of the file"
            );
        }
        Outcome::Scheduled(s) => {
            let memory = memory_words(s.memory_empty);
            tracing::info!(slot, component, policy = %s.policy, name = s.name, from = s.from.0, memory, "policy scheduled");
        }
        Outcome::Refused { findings, .. } => {
            let why = findings.join("; ");
            tracing::error!(slot, component, why, "policy refused: what decides now goes on");
        }
    }
}
