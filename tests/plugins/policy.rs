//! Policies: verdicts in the order of the rows, and a row that breaks the policy spoils no other.

use host_domain::observation::Scalar;
use host_domain::plugin::PluginKind;
use host_runtime::{CallError, Health, Plugin, Sheet, Sync};
use serde_json::json;

use super::support::{NOW, component, guest, host, spec};

/// The height at which the guest traps.
const POISON: i64 = 666;

async fn poisonable() -> Plugin {
    let spec = spec(PluginKind::HealthPolicy, json!({"act": "poison"}));
    host().load(guest("hostile-policy"), spec).await.unwrap()
}

fn heights(heights: impl IntoIterator<Item = i64>) -> Sheet {
    Sheet {
        now: NOW,
        names: vec!["node.height@last".into()],
        rows: heights
            .into_iter()
            .map(|height| vec![Scalar::Int(height)])
            .collect(),
    }
}

#[tokio::test]
async fn a_poisoned_row_costs_itself_and_nothing_else() {
    let plugin = poisonable().await;
    for poisoned in [vec![0], vec![255], vec![256], vec![599], vec![3, 4, 300]] {
        let sheet = heights((0..600).map(|row| if poisoned.contains(&row) { POISON } else { 1 }));
        let verdicts = plugin.evaluate_all(&sheet).await;
        assert_eq!(verdicts.len(), 600);
        for (row, verdict) in (0_i64..).zip(verdicts) {
            match verdict {
                Ok(verdict) => {
                    assert!(!poisoned.contains(&row), "row {row} was judged");
                    assert_eq!((verdict.health, verdict.sync), (Health::Ok, Sync::Synced));
                }
                Err(error) => {
                    assert!(poisoned.contains(&row), "row {row}: {error}");
                    assert!(matches!(error, CallError::Trap { .. }), "{error:?}");
                }
            }
        }
        assert!(plugin.evaluate(&sheet).await.is_err());
    }
}

#[tokio::test]
async fn a_policy_that_breaks_on_every_row_is_not_called_for_each() {
    let plugin = poisonable().await;
    let calls_before = plugin.stats().calls;
    let verdicts = plugin.evaluate_all(&heights([POISON; 256])).await;
    assert!(verdicts.len() == 256 && verdicts.iter().all(Result::is_err));
    assert!(
        plugin.stats().calls - calls_before <= 32,
        "{:?}",
        plugin.stats()
    );
}

#[tokio::test]
async fn an_empty_sheet_has_no_verdicts() {
    let plugin = poisonable().await;
    assert_eq!(plugin.evaluate(&heights([])).await, Ok(vec![]));
    assert!(plugin.evaluate_all(&heights([])).await.is_empty());
}

#[tokio::test]
async fn the_progress_policy_tells_a_stalled_node_from_a_healthy_one() {
    let spec = spec(
        PluginKind::HealthPolicy,
        json!({"stalled_after_s": 60, "silent_after_s": 45}),
    );
    let plugin = host().load(component("progress"), spec).await.unwrap();
    let names = plugin.description().reads.clone();
    let row = |unchanged_s: f64, age_s: f64| {
        let value = |name: &String| match name.as_str() {
            "node.height@last" => Scalar::Int(100),
            "node.height@unchanged_s" => Scalar::Real(unchanged_s),
            "node.height@age_s" => Scalar::Real(age_s),
            _ => Scalar::Absent,
        };
        names.iter().map(value).collect::<Vec<_>>()
    };
    let rows = vec![row(1.0, 1.0), row(61.0, 1.0), row(50.0, 50.0)];
    let verdicts = plugin
        .evaluate(&Sheet {
            now: NOW,
            names: names.clone(),
            rows,
        })
        .await
        .unwrap();
    let health: Vec<_> = verdicts.iter().map(|verdict| verdict.health).collect();
    assert_eq!(health, [Health::Ok, Health::Critical, Health::Critical]);
    for verdict in &verdicts[1..] {
        assert_eq!(verdict.reasons[0].code, "height_stalled");
    }
}
