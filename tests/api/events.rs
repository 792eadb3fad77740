//! The event stream: what a client that was away has missed comes first, and nothing twice.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;

use super::bed::Bed;

/// Reads events until there are `n` with a number beside `connected`, within a bound.
pub(super) async fn read(bed: &Bed, path: &str, last: Option<i64>, n: usize) -> Vec<(i64, Value)> {
    let mut request = bed.request(Method::GET, path);
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut bytes = response.bytes_stream();
    let mut text = String::new();
    let mut found = Vec::new();
    let reading = async {
        while found.len() < n {
            let chunk = bytes.next().await.expect("the stream goes on").unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                found.extend(numbered(event));
                rest.to_owned().clone_into(&mut text);
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(
        read.is_ok(),
        "{n} events should come; so far {found:?} {text}"
    );
    found
}

fn numbered(event: &str) -> Option<(i64, Value)> {
    let field = |name: &str| {
        event
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    if field("event:")? == "connected" {
        return None;
    }
    let id = field("id:")?.parse().unwrap();
    Some((id, serde_json::from_str(field("data:")?).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let bed = Bed::start().await;
    bed.node("alice").await;
    let all = read(&bed, "/api/v1/events", Some(0), 1).await;
    let (last, first) = all[0].clone();
    assert_eq!(first["seq"], last);
    // While nobody listens, more happens.
    bed.node("bob").await;
    bed.node("carol").await;
    let missed = read(&bed, "/api/v1/events", Some(last), 2).await;
    let seqs: Vec<i64> = missed.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs[0], last + 1, "the next number after the last one");
    assert!(
        seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{seqs:?}"
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_stream_has_only_what_was_asked_for() {
    let bed = Bed::start().await;
    bed.node("alice").await;
    let bob = bed.node("bob").await;
    let id = bob["node_id"].as_str().unwrap();
    let events = read(
        &bed,
        &format!("/api/v1/events?node={id}&kind=operation&after=0"),
        None,
        1,
    )
    .await;
    for (_, event) in events {
        assert_eq!(event["node_id"], id);
        assert_eq!(event["kind"], "operation");
    }
    bed.stop().await;
}
