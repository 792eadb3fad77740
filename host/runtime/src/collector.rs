//! Calls collectors: one node in, its observations out, with the host's timestamp.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use host_domain::ids::NodeId;
use host_domain::observation::{Observation, Scalar};

use crate::bindings::collector::exports::bellwether::collector::collect;
use crate::bindings::shared::bellwether::types::observations::Scalar as WitScalar;
use crate::capability::facts::FactSource;
use crate::capability::kv::KvScope;
use crate::error::CallError;
use crate::plugin::Plugin;
use crate::state::CallNode;

/// The maximum of observations per call.
const OBSERVATIONS_MAX: usize = 1_000;
/// The maximum bytes of an observation's name.
const NAME_BYTES_MAX: usize = 128;
/// The maximum bytes of a text value.
const TEXT_BYTES_MAX: usize = 4096;

/// The node that a collector measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectNode {
    /// Its id.
    pub id: NodeId,
    /// The chain profile's id.
    pub chain: String,
    /// The node's type in that profile.
    pub node_type: String,
}

/// What a call can access of the node.
#[derive(Clone, Default)]
pub struct NodeContext {
    /// The node's ports on its machine, by their names in runtime.yaml.
    pub ports: BTreeMap<String, u16>,
    /// The machine's facts, when available.
    pub facts: Option<Arc<dyn FactSource>>,
}

impl fmt::Debug for NodeContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeContext")
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// Measures a node once.
    pub async fn collect(
        &self,
        node: CollectNode,
        context: NodeContext,
    ) -> Result<Vec<Observation>, CallError> {
        let linked = self.collector()?;
        let id = node.id.to_string();
        let scope = KvScope {
            plugin: self.name().to_owned(),
            node: id.clone(),
        };
        let node = collect::Node {
            id,
            chain: node.chain,
            node_type: node.node_type,
        };
        self.caller()
            .call(
                "collect",
                CallNode {
                    kv_scope: scope,
                    context,
                },
                |mut store| async move {
                    let answer = async {
                        let plugin = linked.instantiate_async(&mut store).await?;
                        plugin
                            .bellwether_collector_collect()
                            .call_collect(&mut store, &node, self.config())
                            .await
                    };
                    let answer = answer.await;
                    (store, answer)
                },
                |measured| self.stamp(measured),
            )
            .await
    }

    fn stamp(&self, measured: Vec<collect::Observation>) -> Result<Vec<Observation>, CallError> {
        let bad = |reason: String| Err(CallError::BadAnswer { reason });
        if measured.len() > OBSERVATIONS_MAX {
            return bad(format!(
                "the plugin returned {} observations; the maximum is {OBSERVATIONS_MAX}",
                measured.len()
            ));
        }
        let at = self.caller().shared.services.clock.now();
        let mut observations = Vec::with_capacity(measured.len());
        for observation in measured {
            if observation.name.is_empty() || observation.name.len() > NAME_BYTES_MAX {
                return bad(format!(
                    "an observation's name has {} bytes; it must have 1 to {NAME_BYTES_MAX}",
                    observation.name.len()
                ));
            }
            let value = scalar(observation.value);
            if let Scalar::Text(text) = &value
                && text.len() > TEXT_BYTES_MAX
            {
                return bad(format!(
                    "the text of `{}` has {} bytes; the maximum is {TEXT_BYTES_MAX}",
                    observation.name,
                    text.len()
                ));
            }
            observations.push(Observation {
                name: observation.name,
                value,
                at,
            });
        }
        Ok(observations)
    }
}

fn scalar(value: WitScalar) -> Scalar {
    match value {
        WitScalar::Absent => Scalar::Absent,
        WitScalar::Flag(flag) => Scalar::Flag(flag),
        WitScalar::Int(int) => Scalar::Int(int),
        // NaN and infinity can't be compared, stored or drawn.
        WitScalar::Real(real) if real.is_finite() => Scalar::Real(real),
        WitScalar::Real(_) => Scalar::Absent,
        WitScalar::Text(text) => Scalar::Text(text),
    }
}
