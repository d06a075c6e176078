use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use kernel::envelope::CLAIM_TYPE;
use serde_json::json;
use tower::ServiceExt as _;

use super::rig::{Rig, TOKEN, key};
use crate::config::{Config, Role, Storage};
use crate::group::Disks;
use crate::restore::{opened, restore};

/// The bytes of a backup, as the route gives them.
async fn backup(rig: &Rig) -> Vec<u8> {
    let request = Request::get("/v1/cluster/backup").header("authorization", format!("Bearer {TOKEN}"));
    let response = rig.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["content-type"]),
        (StatusCode::OK, &"application/octet-stream".parse::<axum::http::HeaderValue>().unwrap())
    );
    assert!(response.headers()["pingward-read"].to_str().unwrap().starts_with("linearizable; applied="));
    let len: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap();
    assert_eq!(bytes.len(), len);
    bytes.into()
}

fn config(dir: &Path) -> Config {
    let config = Config { storage: Storage::Disk, ..Config::in_memory(Role::Super, "super-1", dir) };
    Config { cluster_id: "lab".into(), key_file: dir.join("node.key"), data_dir: dir.join("data"), ..config }
}

fn claim(cluster: &str, n: u8, sequence: u64, expires_ms: u64) -> String {
    let payload =
        json!({ "cluster": cluster, "sequence": sequence, "expires_ms": expires_ms, "amount": 10 }).to_string();
    serde_json::to_string(&key(n).envelope(CLAIM_TYPE, payload.as_bytes())).unwrap()
}

#[tokio::test]
async fn a_cluster_made_of_a_backup_owns_the_same_and_is_another_one() {
    let mut old = Rig::new().await.with_followers(3).await;
    for down in [&[3][..], &[3], &[]] {
        old.settle(down).await;
    }
    let name = old.group.read(|state| state.meta.cluster.to_string());
    let expires_ms = old.group.now_ms() + 60_000;
    assert_eq!(old.post("/v1/claims", claim(&name, 1, 1, expires_ms)).await.status, StatusCode::OK);
    let set = json!({ "settings": { "round.interval_ms": 5_000 } });
    assert_eq!(old.operate("PUT", "/v1/settings", &set).await.status, StatusCode::ACCEPTED);
    for _ in 0..2 {
        old.settle(&[]).await;
    }
    assert_eq!(old.get("/v1/cluster/backup").await.code(), "no_token");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lab.backup");
    let bytes = backup(&old).await;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(opened(&file).unwrap().cluster().to_string(), name);
    let config = config(dir.path());
    key(200).save(&config.key_file).unwrap();

    // One byte that is another, or one that is missing, and nothing happens.
    let mut wrong = bytes.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    for wrong in [wrong.as_slice(), &bytes[..bytes.len() - 1]] {
        std::fs::write(dir.path().join("wrong"), wrong).unwrap();
        let failure = restore(&config, &dir.path().join("wrong"), 1).unwrap_err();
        assert!(failure.what.starts_with("this is no whole backup"), "{failure}");
    }
    let other = Config { cluster_id: "field".into(), ..config.clone() };
    assert!(restore(&other, &file, 1).unwrap_err().hint.unwrap().contains("\"lab\""));
    assert!(!config.data_dir.join("super.redb").exists());

    let restored = restore(&config, &file, 1).unwrap();
    assert_eq!(
        (restored.from.to_string(), restored.round, restored.node),
        (name.clone(), old.group.read(|state| state.meta.settled), key(200).id())
    );
    assert_ne!(restored.cluster.genesis, restored.from.genesis);
    let state = std::fs::read(config.data_dir.join("super.redb")).unwrap();
    let failure = restore(&config, &file, 1).unwrap_err();
    assert!(failure.what.contains("holds a cluster already"), "{failure}");
    assert_eq!(std::fs::read(config.data_dir.join("super.redb")).unwrap(), state, "nothing was touched");

    let mut new = Rig::on(&Disks::folder(&config.data_dir), false).await;
    for path in ["/v1/rewards", "/v1/bans", "/v1/rounds", "/v1/accounts/treasury"] {
        assert_eq!(new.read(path).await, old.read(path).await, "{path}");
    }
    for n in 1..=3 {
        for path in [format!("/v1/accounts/{}", key(n).id()), format!("/v1/nodes/{}", key(n).id())] {
            assert_eq!(new.read(&path).await, old.read(&path).await, "{path}");
        }
    }
    let (ours, theirs) = (new.read("/v1/settings").await, old.read("/v1/settings").await);
    assert_eq!((&ours, &ours["settings"]["round.interval_ms"]), (&theirs, &json!(5_000)));
    assert_eq!(
        new.read("/v1/policies").await["slots"]["ban"]["active"]["digest"],
        old.read("/v1/policies").await["slots"]["ban"]["active"]["digest"]
    );
    assert_eq!(new.group.read(kernel::state::State::sum), 0);
    let members = new.operate("GET", "/v1/cluster/members", &json!({})).await.json();
    let members = members["members"].as_array().unwrap();
    assert_eq!((members.len(), &members[0]["state"], &members[0]["leader"]), (1, &json!("voter"), &json!(true)));
    let changes = new.read("/v1/changes?after=0").await;
    let last = changes["changes"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["from"], &last["to"]), (&json!(name), &json!(restored.cluster.to_string())), "{last}");

    // What was signed for the old cluster counts in it only.
    let stale = claim(&name, 2, 1, expires_ms);
    let refused = new.post("/v1/claims", stale.clone()).await;
    assert_eq!((refused.code().as_str(), refused.status), ("wrong_cluster", StatusCode::FORBIDDEN));
    assert_eq!(old.post("/v1/claims", stale).await.status, StatusCode::OK);
    let anew = claim(&restored.cluster.to_string(), 2, 1, expires_ms);
    assert_eq!(new.post("/v1/claims", anew).await.status, StatusCode::OK);
    // And it goes on.
    let next = new.settle(&[]).await;
    assert_eq!(next.0, restored.round.0 + 1);
    assert_eq!(new.group.read(kernel::state::State::sum), 0);
}

#[tokio::test]
async fn one_backup_is_read_at_a_time() {
    let rig = Rig::new().await.with_followers(1).await;
    let all = rig.app.places.backups.clone().acquire_owned().await.unwrap();
    let router = crate::rest::router(rig.app.clone());
    let get = || {
        let request = Request::get("/v1/cluster/backup?read=local").header("authorization", format!("Bearer {TOKEN}"));
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(super::rig::ask(&router, get()).await.code(), "busy");
    drop(all);
    // Whoever hangs up in the middle makes room.
    let begun = rig.router.clone().oneshot({
        let request = Request::get("/v1/cluster/backup").header("authorization", format!("Bearer {TOKEN}"));
        request.body(Body::empty()).unwrap()
    });
    drop(begun.await.unwrap());
    loop {
        let request = Request::get("/v1/cluster/backup").header("authorization", format!("Bearer {TOKEN}"));
        let answer = rig.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        if answer.status() == StatusCode::OK {
            break;
        }
        tokio::task::yield_now().await;
    }
}
