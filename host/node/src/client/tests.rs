use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

#[test]
fn a_url_is_read_in_any_form_that_people_type() {
    for (url, shown) in [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("localhost:1", "http://localhost:1"),
        ("http://[::1]:8080/pw/", "http://[::1]:8080/pw"),
        ("http://a.example", "http://a.example:80"),
    ] {
        assert_eq!(Api::url(url).unwrap().shown(), shown);
    }
    for url in ["https://a", "ftp://a", "http://", "::", ""] {
        assert!(Api::url(url).unwrap_err().usage, "{url}");
    }
}

#[test]
fn a_problem_is_shown_with_detail_hint_and_code() {
    let body = br#"{"type":"x","title":"Over-claim","status":409,"detail":"asked 50, earned 10","code":"overclaim","hint":"ask for less"}"#;
    let failure = answer(409, body).unwrap_err().at("POST /v1/claims");
    assert_eq!(
        anstream::adapter::strip_str(&failure.to_string()).to_string(),
        "error: asked 50, earned 10 [overclaim]\n  where: POST /v1/claims\n  hint: ask for less\n"
    );
    let failure = answer(502, b"<html>").unwrap_err();
    assert_eq!(failure.what, "answered 502, and not in JSON");
    assert_eq!(answer(202, b"").unwrap(), Value::Null);
}

#[test]
fn the_payload_has_what_the_protocol_lists_and_no_more() {
    let cluster = ClusterId { id: "lab".into(), genesis: kernel::id::Genesis([5; 16]) };
    let to = NodeKey::from_seed(&[1; 32]).id();
    let with = claim_payload(&cluster, 7, 9, Amount::Exactly(3), Some(to));
    let expected =
        json!({ "cluster": cluster.to_string(), "sequence": 7, "expires_ms": 9, "amount": 3, "to": to.to_string() });
    assert_eq!(serde_json::from_str::<Value>(&with).unwrap(), expected);
    let without = claim_payload(&cluster, 7, 9, Amount::All, None);
    assert_eq!(
        serde_json::from_str::<Value>(&without).unwrap(),
        json!({ "cluster": cluster.to_string(), "sequence": 7, "expires_ms": 9, "amount": "all" })
    );
}

#[test]
fn a_form_has_a_line_that_is_in_none_of_its_parts() {
    let sent = form(&[("component", b"\0asm pingward-part pingward-part-"), ("config", b"{}")]);
    assert_eq!(sent.kind, "multipart/form-data; boundary=pingward-part--");
    let text = String::from_utf8(sent.bytes.to_vec()).unwrap();
    assert_eq!(text.matches("--pingward-part--\r\n").count(), 2, "{text}");
    assert!(text.ends_with("{}\r\n--pingward-part----\r\n"), "{text}");
}

async fn served(answer: &'static [u8]) -> Result<Value, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4_096];
        let got = stream.read(&mut asked).await.unwrap();
        stream.write_all(answer).await.unwrap();
        drop(stream);
        String::from_utf8_lossy(&asked[..got]).into_owned()
    };
    let api = Api::url(&url).unwrap().with_token("secret".into());
    let (asked, answer) = tokio::join!(server, api.get("/v1/status?x=1"));
    assert!(
        asked.starts_with("GET /v1/status?x=1 HTTP/1.1\r\n") && asked.contains("authorization: Bearer secret\r\n"),
        "{asked}"
    );
    answer
}

#[tokio::test]
async fn an_answer_comes_back_as_json() {
    let answer = served(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": 1 }").await;
    assert_eq!(answer.unwrap(), serde_json::json!({ "a": 1 }));
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_no_http_says_so() {
    let failure = served(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{").await.unwrap_err();
    assert!(failure.what.starts_with("the answer broke off"), "{failure}");
    let failure = served(b"SSH-2.0-x\r\n\r\n").await.unwrap_err();
    assert!(failure.what.starts_with("this is not the API of a node"), "{failure}");
}

#[tokio::test]
async fn nobody_there_says_how_to_start_somebody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    drop(listener);
    let failure = Api::url(&url).unwrap().get("/v1/status").await.unwrap_err();
    assert!(failure.to_string().contains("pingward demo"), "{failure}");
    let failure = Api::socket(Path::new("/nowhere/admin.sock")).get("/v1/status").await.unwrap_err();
    assert!(failure.to_string().contains("/nowhere/admin.sock"), "{failure}");
}
