//! Subscriptions and their payments in JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::operations::OperationView;
use crate::words::SubscriptionState;

/// Which subscriptions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubscriptionsQuery {
    /// One state.
    #[param(inline)]
    pub state: Option<SubscriptionState>,
    /// Chain profile id.
    pub chain: Option<String>,
    /// Of one owner; only an admin sees those of others.
    pub owner: Option<String>,
}

/// What a new subscription shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSubscriptionRequest {
    /// Chain profile id, such as `anvil-devnet`.
    pub chain: String,
    /// What one payment buys, such as `30d`; one of the node type's prices where it has any.
    pub duration: String,
    /// One of the profile's node types; the only one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_type: Option<String>,
    /// One of the node type's providers; its first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// One of the provider's regions; its default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Values of the profile's inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

/// A payment that was received elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordPaymentRequest {
    /// Its name where it was received, such as an invoice's number; it counts once.
    pub payment_id: String,
}

/// A subscription that was paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PaymentRecorded {
    /// As it is now.
    pub subscription: SubscriptionView,
    /// The operation that makes its node, or has made it.
    pub operation: Option<OperationView>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Subscription)]
pub struct SubscriptionView {
    /// UUID v7.
    pub id: Uuid,
    /// The name of the key that made it.
    pub owner: String,
    /// Chain profile id.
    pub chain: String,
    /// One of the chain's node types.
    pub node_type: String,
    /// What one payment buys; `null` for one without a term, which takes no payment and ends with its node.
    pub duration: Option<String>,
    /// Where it stands.
    pub state: SubscriptionState,
    /// Its node; `null` before the first payment.
    pub node_id: Option<Uuid>,
    /// Values of the profile's inputs.
    pub inputs: BTreeMap<String, String>,
    /// The payment that was recorded last.
    pub payment_id: Option<String>,
    /// Until when it is paid.
    pub expires_at: Option<Timestamp>,
    /// Where its node runs; for admins only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceView>,
    /// Rises with each change; the same as in the `ETag`.
    pub version: i64,
    /// When it came into its state.
    pub entered_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Where the node of a subscription runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SubscriptionPlace)]
pub struct PlaceView {
    /// Provider.
    pub provider: String,
    /// The provider's region.
    pub region: String,
    /// The provider's instance type for this term.
    pub instance_type: String,
}
