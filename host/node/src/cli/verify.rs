//! Check users' records and their certificates offline, by public keys alone.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use kernel::id::{Digest, NodeId, Signature};
use kernel::records::certificate::{Attestation, Certificate, Proof, Verdict};
use kernel::records::record::Record;
use serde_json::Value;

use crate::failure::Failure;
use crate::records::directory::Directory;
use crate::records::header::Header;
use crate::rest::records::{CertificateView, RecordView};

/// Bytes of a file that is verified: a record in base64 with its certificate, or a page of records.
const FILE_BYTES: u64 = 256 << 20;

/// Check a record and its certificate offline
///
/// FILE is what `record get`, `record list` or `record watch` wrote with --output json. With --keys (what
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
    std::fs::File::open(file).map_err(cannot)?.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES {
        let what = format!("{} has more than {} MiB", file.display(), FILE_BYTES >> 20);
        return Err(Failure::new(what, "list fewer records in a file: `pingward record list --limit N`"));
    }
    Ok(bytes)
}

/// The records of a file: one, a page of them, or the lines of a watch.
fn read_records(file: &std::path::Path) -> Result<Vec<RecordView>, Failure> {
    const WRITES: &str =
        "it takes what `pingward record get DIGEST --output json` writes, `record list` or `record watch`";
    let bytes = read_file(file)?;
    let no_record = |error: serde_json::Error| Failure::new(format!("{}: {error}", file.display()), WRITES);
    let mut records = Vec::new();
    for value in serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>() {
        let mut value = value.map_err(no_record)?;
        match (value.get_mut("records").map(Value::take), value.get_mut("record").map(Value::take)) {
            (Some(page), _) => {
                let page: Vec<RecordView> = serde_json::from_value(page).map_err(no_record)?;
                records.extend(page);
            }
            (None, Some(one)) => records.push(serde_json::from_value(one).map_err(no_record)?),
            (None, None) => records.push(serde_json::from_value(value).map_err(no_record)?),
        }
    }
    // Nothing that was checked is nothing that is valid.
    if records.is_empty() {
        return Err(Failure::new(format!("{}: there is no record in it", file.display()), WRITES));
    }
    Ok(records)
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
    use kernel::envelope::{ATTESTATION_TYPE, RECORD_TYPE};
    use kernel::id::{ClusterId, Genesis, LogIndex};
    use kernel::records::certificate::leaves;
    use kernel::records::{sealed::SealedBatch, tree};

    use super::*;
    use crate::keys::NodeKey;
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
        let root = tree::root(leaves(11, records.iter().map(Record::digest).zip(&verdicts)));
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
        let failure = Verify { file: file.clone(), keys: None, output }.run().unwrap_err();
        assert_eq!((failure.what.as_str(), failure.usage), ("consistent, signers unknown", false));
        // A page, and the lines of a watch.
        let value = serde_json::to_value(&record).unwrap();
        let page = serde_json::json!({ "records": [&value, &value], "next": null }).to_string();
        let lines = format!("{0}\n{0}\n{0}\n", serde_json::json!({ "place": "9-1", "record": value }));
        for (text, count) in [(page, 2), (lines, 3)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read_records(&file).unwrap().len(), count);
        }
        std::fs::write(&file, "").unwrap();
        assert!(read_records(&file).unwrap_err().what.ends_with("there is no record in it"));
        std::fs::write(&file, r#"{"records": []}"#).unwrap();
        assert!(read_records(&file).unwrap_err().what.ends_with("there is no record in it"));
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
