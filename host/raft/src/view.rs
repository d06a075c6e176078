//! What everybody may see of the state, and who is told when it changes.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use kernel::outcome::Notice;
use kernel::state::State;
use tokio::sync::{broadcast, watch};

use crate::group::Applied;
use crate::machine::{self, Machine, Watcher};
use crate::time::Time;

/// Notices that a slow watcher may be behind before it misses some; it can read what they said.
const NOTICES: usize = 4_096;

/// See the module.
pub(crate) struct View {
    machine: OnceLock<Machine>,
    /// What a super has that belongs to no group.
    empty: State,
    applied: watch::Sender<Applied>,
    notices: broadcast::Sender<Arc<Notice>>,
    time: Arc<Time>,
    also: Arc<dyn Watcher>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("applied", &*self.applied.borrow()).finish_non_exhaustive()
    }
}

impl View {
    pub(crate) fn new(time: Arc<Time>, also: Arc<dyn Watcher>) -> Self {
        Self {
            machine: OnceLock::new(),
            empty: State::default(),
            applied: watch::Sender::new(Applied::default()),
            notices: broadcast::Sender::new(NOTICES),
            time,
            also,
        }
    }

    /// There is a state from now on.
    pub(crate) fn shows(&self, machine: Machine) {
        let machine = self.machine.get_or_init(|| machine);
        let now = machine.read(|state| Applied { index: state.meta.applied, settled: state.meta.settled });
        self.applied.send_replace(now);
    }

    pub(crate) fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        match self.machine.get() {
            Some(machine) => machine.read(f),
            None => f(&self.empty),
        }
    }

    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    pub(crate) fn notices(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }
}

/// What the machine tells: it must not keep alive what shows it.
pub(crate) struct Tell(pub(crate) Weak<View>);

impl Watcher for Tell {
    fn applied(&self, what: &machine::Applied) {
        if let Some(view) = self.0.upgrade() {
            view.applied_now(what);
        }
    }

    fn told(&self, notices: Vec<Notice>) {
        if let Some(view) = self.0.upgrade() {
            view.tell(notices);
        }
    }
}

impl View {
    fn applied_now(&self, what: &machine::Applied) {
        self.time.saw(what.stamp_ms);
        self.applied.send_replace(Applied { index: what.index, settled: what.settled });
        self.also.applied(what);
    }

    fn tell(&self, notices: Vec<Notice>) {
        for notice in notices {
            // Nobody may be watching.
            let _ = self.notices.send(Arc::new(notice));
        }
    }
}
