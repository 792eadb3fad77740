//! Observations: written in batches and repeatable, read as windows, series and newest values.

use std::collections::BTreeMap;

use host_domain::health::Sample;
use host_domain::ids::NodeId;
use host_domain::observation::{Observation, Scalar};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, Value, json, sql};

struct Observed {
    node_id: NodeId,
    observation: Observation,
}

impl FromRow for Observed {
    const TABLE: &'static str = "observations";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            node_id: row.parsed("node_id")?,
            observation: Observation {
                name: row.text("name")?,
                at: row.millis("at")?,
                value: row.json("value")?,
            },
        })
    }
}

impl Reader {
    /// A series from `from` up to `to`, oldest first; the next page starts after the last sample's time.
    pub async fn samples(
        &self,
        node: NodeId,
        name: &str,
        from: Millis,
        to: Millis,
        limit: u32,
    ) -> Result<Vec<Sample>, StoreError> {
        const SQL: &str = "SELECT node_id, name, at, value FROM observations
            WHERE node_id = $1 AND name = $2 AND at >= $3 AND at <= $4 ORDER BY at LIMIT $5";
        let stmt = sql(SQL)
            .bind(node)
            .bind(name)
            .bind(from)
            .bind(to)
            .bind(limit);
        let observed: Vec<Observed> = self.all(stmt).await?;
        Ok(observed
            .into_iter()
            .map(|one| sample(one.observation))
            .collect())
    }

    /// The samples that policies read for a page of nodes: by node and name, oldest first, at most the newest
    /// `samples_max` of each since `from`; for a series without samples since then, its last sample.
    pub async fn windows(
        &self,
        nodes: &[NodeId],
        names: &[&str],
        from: Millis,
        samples_max: u32,
    ) -> Result<BTreeMap<NodeId, BTreeMap<String, Vec<Sample>>>, StoreError> {
        const SQL: &str =
            "WITH wanted_nodes (id) AS (VALUES {}), wanted_names (name) AS (VALUES {})
            SELECT node_id, name, at, value FROM (
                SELECT node_id, name, at, value,
                    row_number() OVER (PARTITION BY node_id, name ORDER BY at DESC) AS place
                FROM observations
                WHERE at >= $1 AND node_id IN (SELECT id FROM wanted_nodes)
                    AND name IN (SELECT name FROM wanted_names)) AS newest
            WHERE place <= $2
            UNION ALL
            SELECT node_id, name, at, value FROM observation_latest
            WHERE at < $1 AND node_id IN (SELECT id FROM wanted_nodes)
                AND name IN (SELECT name FROM wanted_names)
            ORDER BY node_id, name, at";
        let mut windows: BTreeMap<NodeId, BTreeMap<String, Vec<Sample>>> = BTreeMap::new();
        if nodes.is_empty() || names.is_empty() {
            return Ok(windows);
        }
        let stmt = sql(SQL)
            .bind(from)
            .bind(samples_max)
            .list(nodes.iter().map(|node| vec![(*node).into()]))
            .list(names.iter().map(|name| vec![(*name).into()]));
        for one in self.all::<Observed>(stmt).await? {
            let of_node = windows.entry(one.node_id).or_default();
            of_node
                .entry(one.observation.name.clone())
                .or_default()
                .push(sample(one.observation));
        }
        Ok(windows)
    }

    /// The newest observation of each name, by node.
    pub async fn latest_observations(
        &self,
        nodes: &[NodeId],
    ) -> Result<BTreeMap<NodeId, BTreeMap<String, Observation>>, StoreError> {
        const SQL: &str = "SELECT node_id, name, at, value FROM observation_latest
            WHERE node_id IN (VALUES {}) ORDER BY node_id, name";
        let mut latest: BTreeMap<NodeId, BTreeMap<String, Observation>> = BTreeMap::new();
        let ids = nodes.iter().map(|node| vec![(*node).into()]).collect();
        for one in self.all_list::<Observed>(SQL, ids).await? {
            let of_node = latest.entry(one.node_id).or_default();
            of_node.insert(one.observation.name.clone(), one.observation);
        }
        Ok(latest)
    }
}

impl Tx {
    /// Inserts observations and returns how many were new; an existing one (same node, name and time) stays
    /// unchanged.
    pub async fn insert_observations(
        &mut self,
        observed: &[(NodeId, Observation)],
    ) -> Result<u64, StoreError> {
        const SQL: &str = "INSERT INTO observations (node_id, name, at, value) VALUES {}
            ON CONFLICT (node_id, name, at) DO NOTHING";
        const LATEST: &str = "INSERT INTO observation_latest (node_id, name, at, value) VALUES {}
            ON CONFLICT (node_id, name) DO UPDATE SET at = excluded.at, value = excluded.value
            WHERE excluded.at >= observation_latest.at";
        // Ordered by key, so that two writers can't deadlock; once per key, because PostgreSQL rejects a statement
        // that touches a row twice.
        let mut rows = BTreeMap::new();
        let mut latest = BTreeMap::new();
        for (node, one) in observed {
            rows.entry((*node, one.name.as_str(), one.at))
                .or_insert(&one.value);
            let kept = latest
                .entry((*node, one.name.as_str()))
                .or_insert((one.at, &one.value));
            if one.at > kept.0 {
                *kept = (one.at, &one.value);
            }
        }
        let rows: Vec<_> = rows
            .iter()
            .map(|((node, name, at), value)| row(*node, name, *at, value))
            .collect();
        let latest: Vec<_> = latest
            .iter()
            .map(|((node, name), (at, value))| row(*node, name, *at, value))
            .collect();
        let n_new = self.execute_list(SQL, rows).await?;
        self.execute_list(LATEST, latest).await?;
        Ok(n_new)
    }

    /// Deletes up to `limit` observations from before a time, oldest first, and returns their number. The newest
    /// values stay.
    pub async fn prune_observations(
        &mut self,
        before: Millis,
        limit: u32,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM observations WHERE (node_id, name, at) IN
            (SELECT node_id, name, at FROM observations WHERE at < $1 ORDER BY at LIMIT $2)";
        self.execute(sql(SQL).bind(before).bind(limit)).await
    }
}

fn row(node: NodeId, name: &str, at: Millis, value: &Scalar) -> Vec<Value> {
    // JSON has no NaN and no infinity, so such a number is stored as absent.
    let stored = match value {
        Scalar::Real(number) if !number.is_finite() => &Scalar::Absent,
        value => value,
    };
    vec![node.into(), name.into(), at.into(), json(stored)]
}

fn sample(observation: Observation) -> Sample {
    Sample {
        at: observation.at,
        value: observation.value,
    }
}
