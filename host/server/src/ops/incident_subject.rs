//! What an incident is about.

use std::collections::BTreeMap;

use host_domain::incident::{IncidentKey, SubjectKind};
use host_domain::node::Node;
use host_domain::notification::node_labels;

/// What an incident is about, with what people and routes need to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) kind: SubjectKind,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Subject {
    /// A node, with the labels that routes match.
    pub(crate) fn node(node: &Node) -> Self {
        Self {
            kind: SubjectKind::Node,
            id: node.id.to_string(),
            name: node.name.clone(),
            labels: node_labels(&node.chain_profile_id, &node.node_type),
        }
    }

    /// A plugin; `scope` is the chain that declares it, or `notifications`.
    pub(crate) fn plugin(scope: &str, plugin: &str) -> Self {
        let name = format!("{scope}/{plugin}");
        Self {
            kind: SubjectKind::Plugin,
            id: name.clone(),
            name,
            labels: BTreeMap::from([("chain".to_owned(), scope.to_owned())]),
        }
    }

    pub(crate) fn key(&self, category: &str) -> IncidentKey {
        IncidentKey {
            subject_kind: self.kind,
            subject_id: self.id.clone(),
            category: category.to_owned(),
        }
    }
}
