//! Users' records: hand one in, get one, list them, and check one offline.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use kernel::envelope::RECORD_TYPE;
use kernel::id::{Digest, NodeId, Signature};
use kernel::limits::RECORD_BODY;
use kernel::records::certificate::{Attestation, Certificate, Proof, Verdict};
use kernel::records::record::Record;
use serde_json::Value;

use super::operate::Admin;
use super::source::{Page, Reading, Source};
use crate::failure::Failure;
use crate::keys::{Envelope, NodeKey};
use crate::records::directory::Directory;
use crate::records::header::{Header, draw};
use crate::rest::records::{CertificateView, RecordView};
use crate::rest::signed::base64 as decode;
use crate::text::{Columns, field, list, pairs, time};

/// A record that is not ordered within this time need not be ordered any more.
const EXPIRES_MS: u64 = 10 * 60 * 1_000;
/// Bytes of a file that is verified: a record in base64 with its certificate, or a page of records.
const FILE_BYTES: u64 = 256 << 20;

/// Hand in, get and list users' records, which a quorum of validators signs
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    Submit(Submit),
    Get(Get),
    List(List),
    Retry(Retry),
}

impl RecordCommand {
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Submit(submit) => submit.run().await,
            Self::Get(get) => get.run().await,
            Self::List(list) => list.run().await,
            Self::Retry(retry) => retry.run().await,
        }
    }
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    /// It has its place in the order, on the disks of a majority of the supers
    Ordered,
    /// A quorum of validators has signed or refused it
    Sealed,
}

/// Hand a record in to a follower or validator
///
/// With --key it is signed by that key, whose wallet pays the fee where there is one. Without, the node itself is the author;
/// that takes the node's operator (its admin socket, through --config, or its token), or `[records] raw = "open"` in its config.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward record submit reading.json --key author.key --api http://127.0.0.1:8081
  echo hello | pingward record submit - --api http://127.0.0.1:8081 --wait sealed --output json > receipt.json")]
pub struct Submit {
    /// The body: a file of at most 64 KiB, or `-` for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Sign it with this key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How long to wait
    #[arg(long, value_enum, value_name = "FOR", default_value = "sealed")]
    wait: WaitFor,
    #[command(flatten)]
    admin: Admin,
}

impl Submit {
    async fn run(self) -> Result<(), Failure> {
        let body = read_body(&self.file)?;
        let wait = if self.wait == WaitFor::Sealed { "?wait=sealed" } else { "" };
        let route = format!("/v1/records{wait}");
        let answer = match &self.key {
            Some(file) => {
                let key = NodeKey::load(file)
                    .map_err(|error| Failure::new(error.to_string(), "make a key with `pingward key new FILE`"))?;
                let api = self.admin.reads()?;
                let status = api.get("/v1/status").await?;
                let Some(cluster) = status.get("cluster").and_then(Value::as_str) else {
                    return Err(Failure::new("this node belongs to no cluster yet", "ask again when it is attached"));
                };
                let envelope = signed(&key, cluster, &body)?;
                let envelope = serde_json::to_value(envelope)
                    .map_err(|error| Failure::new(error.to_string(), "please report this"))?;
                api.send(Method::POST, &route, &envelope).await?
            }
            None => self.admin.client_or_reader()?.send_bytes(&route, body).await?,
        };
        self.admin.output.print(&answer, submitted)
    }
}

fn read_body(file: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(format!("{} cannot be read: {error}", file.display()), "name a file, or `-` for standard input")
    };
    let mut body = Vec::new();
    let most = RECORD_BODY as u64 + 1;
    if file.as_os_str() == "-" {
        std::io::stdin().take(most).read_to_end(&mut body).map_err(cannot)?;
    } else {
        std::fs::File::open(file).map_err(cannot)?.take(most).read_to_end(&mut body).map_err(cannot)?;
    }
    if body.len() > RECORD_BODY {
        return Err(Failure::new(
            format!("the body has more than {RECORD_BODY} bytes"),
            "cut it into several records, or record its digest and keep the data elsewhere",
        ));
    }
    Ok(body)
}

/// A record that a key signs, as an envelope.
fn signed(key: &NodeKey, cluster: &str, body: &[u8]) -> Result<Envelope, Failure> {
    let nonce = draw().map_err(|error| Failure::new(format!("no randomness: {error}"), "look at this machine"))?;
    let expires_ms = crate::records::ingress::now_ms() + EXPIRES_MS;
    let header = Header { cluster: cluster.into(), nonce, expires_ms };
    Ok(key.envelope(RECORD_TYPE, &header.payload(body)))
}

/// The body that an answer carries.
fn body_of(record: &Value) -> Option<Vec<u8>> {
    record.get("body").and_then(Value::as_str).and_then(decode)
}

/// Why a record was refused; empty where it was not.
fn reason_of(certificate: Option<&Value>) -> &str {
    certificate.and_then(|certificate| certificate.get("reason")).and_then(Value::as_str).unwrap_or_default()
}

fn submitted(answer: &Value) -> String {
    let mut rows = vec![
        ("digest", field(answer, "digest")),
        ("sequence", field(answer, "sequence")),
        ("batch", field(answer, "batch")),
        ("state", field(answer, "state")),
    ];
    if let Some(certificate) = answer.get("certificate").filter(|certificate| certificate.is_object()) {
        let reason = reason_of(Some(certificate));
        if !reason.is_empty() {
            rows.push(("reason", reason.to_owned()));
        }
        rows.push(("signed by", list(certificate, "signatures").len().to_string() + " validators"));
    }
    pairs(&rows)
}

/// Get a record with what proves it, from any node
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward record get sha256:8a88…
  pingward record get 8a88… --output json > record.json     what `pingward verify` takes
  pingward record get 8a88… --body > data                   the body alone")]
pub struct Get {
    /// `sha256:` and 64 hex digits, or the digits alone
    #[arg(value_name = "DIGEST")]
    digest: String,
    /// Write the body alone to standard output
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    source: Source,
}

impl Get {
    async fn run(self) -> Result<(), Failure> {
        let answer = self.source.api()?.get(&format!("/v1/records/{}", self.digest)).await?;
        if !self.body {
            return self.source.output.print(&answer, shown);
        }
        let body = body_of(&answer)
            .ok_or_else(|| Failure::new("this node does not have the body", "ask a follower or a validator"))?;
        std::io::stdout()
            .write_all(&body)
            .map_err(|error| Failure::new(format!("standard output: {error}"), "look at what reads it"))
    }
}

fn shown(record: &Value) -> String {
    let mut rows = vec![
        ("digest", field(record, "digest")),
        ("author", field(record, "author")),
        ("sequence", field(record, "sequence")),
        ("state", field(record, "state")),
        ("ordered", time(record, "ordered_ms")),
    ];
    if let Some(certificate) = record.get("certificate").filter(|certificate| certificate.is_object()) {
        let reason = reason_of(Some(certificate));
        if !reason.is_empty() {
            rows.push(("reason", reason.to_owned()));
        }
        rows.push(("batch", field(certificate, "batch")));
        rows.push(("signed by", list(certificate, "signatures").len().to_string() + " validators"));
        rows.push(("policy", field(certificate, "policy")));
    }
    match body_of(record) {
        Some(body) => match std::str::from_utf8(&body) {
            Ok(text) if text.len() <= 200 => rows.push(("body", crate::client::printable(text))),
            Ok(_) | Err(_) => rows.push(("body", format!("{} bytes; see them with --body", body.len()))),
        },
        None => rows.push(("body", "not kept by this node".into())),
    }
    pairs(&rows)
}

/// List sealed records: the newest page, or what comes after a sequence number
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward record list --api http://127.0.0.1:8081
  pingward record list --after 0 --limit 1000 --output json")]
pub struct List {
    #[command(flatten)]
    source: Reading,
    #[command(flatten)]
    page: Page,
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        self.source
            .show(&self.page.route("/v1/records")?, |answer| {
                let mut columns = Columns::new(&["sequence", "digest", "author", "state", "bytes", "reason"]);
                for record in list(answer, "records") {
                    let digest = field(record, "digest");
                    let bytes = body_of(record).map(|body| body.len().to_string());
                    columns.row([
                        field(record, "sequence"),
                        digest,
                        crate::text::short(record, "author"),
                        field(record, "state"),
                        bytes.unwrap_or_else(|| crate::text::NONE.into()),
                        reason_of(record.get("certificate")).to_owned(),
                    ]);
                }
                columns.text("no sealed records")
            })
            .await
    }
}

/// Let validators try a batch again that no quorum signs, under the signing policy that is in force now
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward records retry 17 --reason 'the rule trapped on two engines'")]
pub struct Retry {
    /// The batch, as `pingward validators list` shows it
    #[arg(value_name = "BATCH")]
    batch: u64,
    /// For the change log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: Admin,
}

impl Retry {
    async fn run(self) -> Result<(), Failure> {
        let body = serde_json::json!({ "batch": self.batch, "reason": self.reason });
        let answer = self.admin.client()?.send(Method::POST, "/v1/records/retry", &body).await?;
        self.admin.output.print(&answer, |_| format!("batch {} is tried again\n", self.batch))
    }
}

/// Check a record and its certificate offline
///
/// FILE is what `record get --output json` wrote, or a page of `record list --output json`. With --keys (what
/// `GET /v1/directory` gives) it says "valid" only if a quorum of the set of validators signed it. Without keys nobody's
/// signature can be told from anybody's: it says "consistent, signers unknown" and exits with 1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward validators keys > keys.json
  pingward verify record.json --keys keys.json")]
pub struct Verify {
    /// The record, as JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The directory of the cluster, as JSON
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    output: super::output::Output,
}

impl Verify {
    pub fn run(self) -> Result<(), Failure> {
        let records = read_records(&self.file)?;
        let keys = self.keys.as_deref().map(read_keys).transpose()?;
        for record in &records {
            judge(record, keys.as_ref())?;
        }
        if keys.is_none() {
            return Err(Failure::new(
                "consistent, signers unknown",
                "name the keys of the cluster with --keys FILE, as GET /v1/directory of a super that you trust gives them",
            ));
        }
        let answer = serde_json::json!({ "valid": records.len(), "records": records.iter().map(|r| &r.digest).collect::<Vec<_>>() });
        self.output.print(&answer, |_| match records.as_slice() {
            [one] => {
                let certificate = one.certificate.as_ref();
                let verdict = certificate.map_or("", |certificate| certificate.verdict.as_str());
                let signers = certificate.map_or(0, |certificate| certificate.signatures.len());
                format!("valid: {verdict} by {signers} validators, sequence {}\n", one.sequence)
            }
            all => format!("valid: {} records\n", all.len()),
        })
    }
}

/// Checks a record: with keys, that a quorum of the set signed it; without, that all of it fits together.
fn judge(record: &RecordView, keys: Option<&Directory>) -> Result<(), Failure> {
    let digest = crate::client::printable(&record.digest);
    let proof = check(record).map_err(|why| invalid(&digest, &why))?;
    let signed = &proof.certificate.attestation;
    let (set, quorum) = match keys {
        Some(directory) if signed.cluster.to_string() != directory.cluster => {
            let why = format!("it belongs to {}, the keys to {}", signed.cluster, directory.cluster);
            return Err(invalid(&digest, &why));
        }
        Some(directory) => directory.set_of(signed.set_version).ok_or_else(|| {
            let what = format!("the keys file has no set of version {}", signed.set_version);
            Failure::new(what, "get a newer one: pingward validators keys")
        })?,
        None => {
            let signers: BTreeSet<NodeId> = proof.certificate.signers();
            let count = signers.len();
            (signers, count)
        }
    };
    proof.certificate.check(&set, quorum).map_err(|why| invalid(&digest, &why.to_string()))
}

fn invalid(digest: &str, why: &str) -> Failure {
    Failure::new(format!("INVALID {digest}: {why}"), "do not trust this record; get it again from another node")
}

fn read_file(file: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(format!("{} cannot be read: {error}", file.display()), "check the path and its permissions")
    };
    let mut bytes = Vec::new();
    std::fs::File::open(file).map_err(cannot)?.take(FILE_BYTES).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

fn read_records(file: &std::path::Path) -> Result<Vec<RecordView>, Failure> {
    let bytes = read_file(file)?;
    let no_record = |error: serde_json::Error| {
        Failure::new(
            format!("{}: {error}", file.display()),
            "it takes what `pingward record get DIGEST --output json` writes",
        )
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(no_record)?;
    match value.get("records") {
        Some(records) => serde_json::from_value(records.clone()).map_err(no_record),
        None => serde_json::from_value(value).map(|one| vec![one]).map_err(no_record),
    }
}

/// The keys of a cluster: the directory, as the envelope or its payload.
fn read_keys(file: &std::path::Path) -> Result<Directory, Failure> {
    let bytes = read_file(file)?;
    if let Ok((directory, _)) = Directory::open(&bytes) {
        return Ok(directory);
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(
            format!("{}: this is no directory: {error}", file.display()),
            "it takes what GET /v1/directory of a super gives",
        )
    })
}

/// Builds the record and its proof again from what is written down, and checks that all of it fits together: every field is
/// under the digest, the leaf or the signatures, or is compared with one that is.
fn check(record: &RecordView) -> Result<Proof, String> {
    let digest: Digest = as_written("digest", &record.digest)?;
    let certificate = record.certificate.as_ref().ok_or("it has no certificate: it is not sealed")?;
    let proof = proof(certificate)?;
    if proof.sequence() != record.sequence {
        return Err("its sequence number is not that of its place".into());
    }
    if proof.verdict.name() != record.state {
        return Err("its state is not the verdict that was signed".into());
    }
    proof.check(digest).map_err(|why| why.to_string())?;
    let author: NodeId = as_written("author", &record.author)?;
    let (Some(header), Some(body)) = (&record.header, &record.body) else {
        return Err("its header or body is missing, so its digest says nothing of it".into());
    };
    let body = strict(body).ok_or("body: this is not base64")?;
    let payload = [header.as_bytes(), b"\n", &body].concat();
    let signature = record.signature.as_deref().map(|text| {
        let bytes: Option<[u8; 64]> = strict(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Signature).ok_or("signature: this is not 64 bytes in base64")
    });
    let parsed = Record { author, payload, signature: signature.transpose()? };
    if parsed.digest() != digest {
        return Err("its author, header and body are not those of its digest".into());
    }
    if parsed.signature.is_some() && !parsed.is_signed() {
        return Err("its author's signature does not verify".into());
    }
    let stated: Header = serde_json::from_str(header).map_err(|error| format!("header: {error}"))?;
    if stated.cluster != certificate.cluster {
        return Err("its author meant another cluster".into());
    }
    Ok(proof)
}

/// A name in the one way in which this program writes it: upper and lower case are the same digits, and a changed character
/// must not go unseen.
fn as_written<T: std::str::FromStr<Err: std::fmt::Display> + ToString>(field: &str, text: &str) -> Result<T, String> {
    let read: T = text.parse().map_err(|error| format!("{field}: {error}"))?;
    if read.to_string() == text { Ok(read) } else { Err(format!("{field}: write it in lower case")) }
}

/// Only the one way of writing bytes that this program writes: a changed character must not go unseen.
fn strict(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    (STANDARD.encode(&bytes) == text).then_some(bytes)
}

fn proof(view: &CertificateView) -> Result<Proof, String> {
    let mut signatures = Vec::new();
    for one in &view.signatures {
        let validator = as_written("a validator", &one.validator)?;
        let bytes: Option<[u8; 64]> = strict(&one.signature).and_then(|bytes| bytes.try_into().ok());
        signatures.push((validator, Signature(bytes.ok_or("a signature is not 64 bytes in base64")?)));
    }
    let verdict = match (view.verdict.as_str(), view.reason.as_str()) {
        ("signed", "") => Verdict::Signed,
        ("refused", reason) => Verdict::Refused(reason.into()),
        _ => return Err("its verdict is neither `signed` nor `refused` with a reason".into()),
    };
    Ok(Proof {
        certificate: Certificate {
            attestation: Attestation {
                cluster: as_written("cluster", &view.cluster)?,
                batch: view.batch,
                attempt: view.attempt,
                set_version: view.set_version,
                policy: as_written("policy", &view.policy)?,
                first_sequence: view.first_sequence,
                count: view.count,
                root: as_written("root", &view.root)?,
            },
            signatures,
        },
        index: view.index,
        verdict,
        path: view.path.iter().map(|text| as_written("path", text)).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use kernel::envelope::ATTESTATION_TYPE;
    use kernel::id::{ClusterId, Genesis, LogIndex};
    use kernel::records::certificate::leaves;
    use kernel::records::{sealed::SealedBatch, tree};

    use super::*;
    use crate::records::directory::{SetEntry, ValidatorSet};
    use crate::records::keeper::fetched;

    fn key(number: u8) -> NodeKey {
        NodeKey::from_seed(&[number; 32])
    }

    fn cluster() -> ClusterId {
        ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) }
    }

    /// A record of a batch of three that validators 1 to 3 of 4 signed, and the keys.
    fn sample(verdict: Verdict) -> (RecordView, Directory) {
        let author = key(9);
        let made = |body: &str| {
            let header = Header { cluster: cluster().to_string(), nonce: body.into(), expires_ms: 5 };
            let payload = header.payload(body.as_bytes());
            Record { author: author.id(), signature: Some(author.sign(RECORD_TYPE, &payload)), payload }
        };
        let records: Vec<Record> = ["a", "hello", "c"].map(made).into();
        let verdicts = vec![Verdict::Signed, verdict, Verdict::Signed];
        let root = tree::root(&leaves(11, records.iter().map(Record::digest).zip(&verdicts)));
        let attestation = Attestation {
            cluster: cluster(),
            batch: 4,
            attempt: 0,
            set_version: 2,
            policy: Digest::of(b"policy"),
            first_sequence: 11,
            count: 3,
            root,
        };
        let payload = attestation.payload();
        let mut signatures: Vec<_> =
            [1, 2, 3].map(|number| (key(number).id(), key(number).sign(ATTESTATION_TYPE, &payload))).into();
        signatures.sort_unstable_by_key(|(node, _)| *node);
        let certificate = Certificate { attestation, signatures };
        let (at, previous) = (LogIndex(9), LogIndex(8));
        let batch = SealedBatch { at, previous, ordered_ms: 1, certificate, verdicts, records };
        let keys = [1, 2, 3, 4].map(|number| key(number).id().to_string());
        let validators = ValidatorSet {
            version: 2,
            quorum: 3,
            set: Vec::new(),
            sets: vec![SetEntry { version: 2, keys: keys.into() }],
        };
        let directory =
            Directory { cluster: cluster().to_string(), version: 1, time_ms: 1, supers: Vec::new(), validators };
        (RecordView::of(&fetched(&batch, 1).unwrap()), directory)
    }

    #[test]
    fn a_record_is_valid_with_a_quorum_of_its_set_and_never_without_keys() {
        for verdict in [Verdict::Signed, Verdict::Refused("too long".into())] {
            let (record, keys) = sample(verdict);
            judge(&record, Some(&keys)).unwrap();
            judge(&record, None).unwrap();
            let mut few = record.clone();
            few.certificate.as_mut().unwrap().signatures.pop();
            judge(&few, None).unwrap();
            let why = judge(&few, Some(&keys)).unwrap_err();
            assert!(why.what.contains("2 valid signatures of the set, 3 are needed"), "{why}");
        }
        let (record, mut keys) = sample(Verdict::Signed);
        keys.validators.sets[0].version = 1;
        assert!(judge(&record, Some(&keys)).unwrap_err().what.contains("no set of version 2"));
        let (record, mut keys) = sample(Verdict::Signed);
        keys.cluster = "other#00".into();
        assert!(judge(&record, Some(&keys)).is_err());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("record.json");
        std::fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
        let output = super::super::output::Output { output: super::super::output::Format::Table };
        let failure = Verify { file, keys: None, output }.run().unwrap_err();
        assert_eq!((failure.what.as_str(), failure.usage), ("consistent, signers unknown", false));
    }

    /// Every byte of what is written down: changed, it is no record any more, or invalid, or says the same. The time of the
    /// order alone is nobody's to sign: it says when the supers wrote it.
    #[test]
    fn a_byte_that_is_changed_anywhere_is_seen() {
        let (record, keys) = sample(Verdict::Refused("too long".into()));
        let text = serde_json::to_vec(&record).unwrap();
        let same = |other: &RecordView| {
            let other = RecordView { ordered_ms: record.ordered_ms, ..other.clone() };
            serde_json::to_value(&other).unwrap() == serde_json::to_value(&record).unwrap()
        };
        for at in 0..text.len() {
            for flip in [1, 2, 0x20, 0x40] {
                let mut changed = text.clone();
                changed[at] ^= flip;
                let Ok(read) = serde_json::from_slice::<RecordView>(&changed) else { continue };
                assert!(same(&read) || judge(&read, Some(&keys)).is_err(), "byte {at} xor {flip}: {read:?}");
            }
        }
    }

    #[test]
    fn a_directory_is_its_signers_word_for_word() {
        let (_, directory) = sample(Verdict::Signed);
        let envelope = serde_json::to_vec(&directory.signed(&key(5))).unwrap();
        let (read, signer) = Directory::open(&envelope).unwrap();
        assert_eq!((read, signer), (directory.clone(), key(5).id()));
        for at in 0..envelope.len() {
            let mut changed = envelope.clone();
            changed[at] ^= 1;
            let Ok((read, signer)) = Directory::open(&changed) else { continue };
            assert!(read == directory && signer == key(5).id(), "byte {at}");
        }
        let (trusts, now_ms) = (BTreeSet::from([key(5).id()]), 1);
        let of = |named: &str, trusts: &BTreeSet<NodeId>, now_ms| {
            directory.trusted(key(5).id(), trusts, named, now_ms).map_err(|error| error.to_string())
        };
        assert_eq!(of("lab", &trusts, now_ms), Ok(()));
        assert_eq!(of(&directory.cluster, &trusts, now_ms), Ok(()));
        assert!(of("lab#00000000000000000000000000000000", &trusts, now_ms).unwrap_err().contains("belongs to"));
        assert!(of("lab", &BTreeSet::new(), now_ms).unwrap_err().contains("knows nothing of"));
        let late = crate::records::directory::VALID_MS + 2;
        assert!(of("lab", &trusts, late).unwrap_err().contains("off by 168 hours"));
    }
}
