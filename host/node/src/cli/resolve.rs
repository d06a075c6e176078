//! Who is meant: a key, the beginning of one, or a name.

use kernel::id::NodeId;
use serde_json::Value;

use crate::client::Api;
use crate::failure::Failure;
use crate::text::field;

/// Fewer digits of a key are too easily somebody else's.
const PREFIX_DIGITS: usize = 8;
/// Pages of the list of nodes that are read: a million nodes.
const PAGES: usize = 1_000;
/// Matches that are listed when a name is not enough.
const LISTED: usize = 20;

/// The key of a node that was named by its key, by at least 8 hex digits of it, or by its name. Names and beginnings are
/// looked up in the API's list and must be one node's only.
pub async fn node(api: &Api, text: &str) -> Result<NodeId, Failure> {
    let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
    if text.len() == 64 && is_hex {
        return NodeId::parse(&text.to_lowercase())
            .map_err(|error| Failure::usage(format!("the node `{text}`: {error}"), "`pingward nodes` lists the keys"));
    }
    let mut matches = Vec::new();
    let mut after = None;
    for _ in 0..PAGES {
        let page = api.get(&route(after.as_deref())).await?;
        matches.extend(crate::text::list(&page, "nodes").iter().filter(|node| fits(node, text)).cloned());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_string()),
            None => break,
        }
    }
    only(text, &matches, "nodes")
}

/// The same of a super of the group; learners are in no other list.
pub async fn member(api: &Api, text: &str) -> Result<NodeId, Failure> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return NodeId::parse(&text.to_lowercase()).map_err(|error| {
            Failure::usage(format!("the super `{text}`: {error}"), "`pingward cluster members` lists the keys")
        });
    }
    // Naming needs no more than what the asked super knows, and must work where nobody leads.
    let answer = api.get("/v1/cluster/members?read=local").await?;
    let mut matches: Vec<Value> =
        crate::text::list(&answer, "members").iter().filter(|member| fits(member, text)).cloned().collect();
    // Two replicas of one key are one super.
    matches.dedup_by_key(|member| field(member, "node"));
    only(text, &matches, "cluster members")
}

fn route(after: Option<&str>) -> String {
    after.map_or_else(|| "/v1/nodes?limit=1000".into(), |after| format!("/v1/nodes?limit=1000&after={after}"))
}

fn fits(node: &Value, text: &str) -> bool {
    let is_prefix = text.len() >= PREFIX_DIGITS && field(node, "node").starts_with(&text.to_lowercase());
    is_prefix || node.get("name").and_then(Value::as_str) == Some(text)
}

fn only(text: &str, matches: &[Value], list: &str) -> Result<NodeId, Failure> {
    match matches {
        [node] => NodeId::parse(&field(node, "node"))
            .map_err(|error| Failure::plain(format!("the node's answer names a key that is none: {error}"))),
        [] => {
            let is_short = text.len() < PREFIX_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
            let hint = if is_short {
                format!("give at least {PREFIX_DIGITS} digits of the key; `pingward {list}` lists all")
            } else {
                format!("`pingward {list}` lists names and keys")
            };
            Err(Failure::new(format!("no node has the name or the key `{text}`"), hint))
        }
        several => {
            let mut what = format!("`{text}` fits {} nodes:", several.len());
            for node in several.iter().take(LISTED) {
                what.push_str(&format!("\n  {}  {}", field(node, "node"), field(node, "name")));
            }
            if several.len() > LISTED {
                what.push_str("\n  ...");
            }
            Err(Failure::new(what, format!("name it by its key, or by the first {PREFIX_DIGITS} digits of it or more")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
    const B: &str = "8a88e3dd00000000000000000000000000000000000000000000000000000000";

    fn find(text: &str) -> Result<NodeId, Failure> {
        let nodes = [
            json!({"node": A, "name": "follower-1"}),
            json!({"node": B, "name": "twin"}),
            json!({"node": B, "name": "twin"}),
        ];
        let matches: Vec<Value> = nodes.into_iter().filter(|node| fits(node, text)).collect();
        only(text, &matches, "nodes")
    }

    #[test]
    fn a_name_or_eight_digits_of_a_key_are_enough_when_they_are_one_nodes_only() {
        assert_eq!(find("follower-1").unwrap().to_string(), A);
        assert_eq!(find("8A88E3DD7").unwrap().to_string(), A);
        let two = find("8a88e3dd").unwrap_err();
        assert!(two.what.contains(A) && two.what.contains(B) && two.what.contains("follower-1"), "{two}");
        assert!(find("twin").unwrap_err().what.starts_with("`twin` fits 2 nodes:"));
        assert!(find("8a88").unwrap_err().hint.unwrap().contains("at least 8 digits"));
        assert_eq!(find("nobody").unwrap_err().what, "no node has the name or the key `nobody`");
    }

    #[tokio::test]
    async fn a_whole_key_needs_no_look_at_the_list() {
        let nowhere = Api::url("127.0.0.1:1").unwrap();
        assert_eq!(node(&nowhere, A).await.unwrap().to_string(), A);
        assert!(node(&nowhere, &"0".repeat(64)).await.unwrap_err().usage);
    }
}
