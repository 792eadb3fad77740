//! The examples of `docs/api-client.md` are answers of a host: the same fields, the same types, and the same words where they
//! are not made up anew for each request.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::bed::Bed;
use super::events::read;

/// The JSON of the block that follows `<!-- example: NAME -->`; of an event stream it is the data of the last event.
fn example(page: &str, name: &str) -> Value {
    let mark = format!("<!-- example: {name} -->");
    let (_, rest) = page
        .split_once(&mark)
        .unwrap_or_else(|| panic!("no {mark}"));
    let block = rest.trim_start().trim_start_matches('`');
    let (_, block) = block.split_once('\n').unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let data = block
        .lines()
        .rfind(|line| line.starts_with("data: "))
        .map(|line| &line["data: ".len()..]);
    let text = data.unwrap_or(block).replace("anvil-devnet", "toy");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
}

/// Whether a text is another one in each answer: an id or a time.
fn is_made_up(text: &str) -> bool {
    let id = text.rsplit('/').next().unwrap_or(text);
    id.parse::<uuid::Uuid>().is_ok() || text.ends_with('Z') && text.contains('T')
}

/// Every place where the example is not as the answer is.
fn differences(example: &Value, answer: &Value, at: &str) -> Vec<String> {
    match (example, answer) {
        (Value::Object(one), Value::Object(other)) => {
            let names = |object: &serde_json::Map<String, Value>| {
                object.keys().cloned().collect::<Vec<_>>()
            };
            if names(one) != names(other) {
                return vec![format!("{at}: {:?} is {:?}", names(one), names(other))];
            }
            let pairs = one.iter().map(|(name, value)| (name, value, &other[name]));
            pairs
                .flat_map(|(name, one, other)| differences(one, other, &format!("{at}/{name}")))
                .collect()
        }
        (Value::Array(one), Value::Array(other)) => {
            let pairs = one.iter().zip(other).enumerate();
            let found = pairs
                .flat_map(|(index, (one, other))| differences(one, other, &format!("{at}/{index}")))
                .collect();
            if one.len() == other.len() {
                return found;
            }
            vec![format!("{at}: {} items are {}", one.len(), other.len())]
        }
        (Value::String(one), Value::String(other)) => {
            let is_same = one == other || is_made_up(one) && is_made_up(other);
            if is_same {
                return Vec::new();
            }
            vec![format!("{at}: {one:?} is {other:?}")]
        }
        (Value::Number(_), Value::Number(_)) => Vec::new(),
        (one, other) if one == other => Vec::new(),
        (one, other) => vec![format!("{at}: {one} is {other}")],
    }
}

#[test]
fn a_wrong_example_is_seen() {
    let answer = json!({ "a": "x", "b": [1], "c": null });
    assert_eq!(
        differences(&answer, &answer, ""),
        Vec::<String>::new(),
        "the same"
    );
    for wrong in [
        json!({ "a": "x", "b": [1] }),
        json!({ "a": "y", "b": [1], "c": null }),
        json!({ "a": "x", "b": [1, 2], "c": null }),
        json!({ "a": "x", "b": ["1"], "c": null }),
        json!({ "a": "x", "b": [1], "c": 1 }),
    ] {
        assert_eq!(differences(&wrong, &answer, "").len(), 1, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_client_page_are_answers_of_a_host() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api-client.md");
    let page = std::fs::read_to_string(path).unwrap();
    let bed = Bed::start().await;
    let post = async |body: Value| -> Value {
        let request = bed.request(Method::POST, "/api/v1/nodes").json(&body);
        request.send().await.unwrap().json().await.unwrap()
    };
    let me = bed.get("/api/v1/me").await;
    let accepted = post(json!({ "chain": "toy", "name": "alice" })).await;
    let event = read(&bed, "/api/v1/events?kind=operation", Some(0), 1).await;
    let audit = bed.get("/api/v1/admin/audit?action=create_node").await;
    let problem = post(json!({ "chain": "toy", "nmae": "alice" })).await;
    for (name, answer) in [
        ("me", &me),
        ("accepted", &accepted),
        ("event", &event[0].1),
        ("problem", &problem),
        ("audit", &audit["items"][0]),
    ] {
        let found = differences(&example(&page, name), answer, "");
        let answer = serde_json::to_string_pretty(answer).unwrap();
        assert!(
            found.is_empty(),
            "{name}: {}\nthe answer is {answer}",
            found.join("\n")
        );
    }
    bed.stop().await;
}
