//! `/api/v1/subscriptions`: what nodes are paid by. A caller sees and moves their own; an admin everybody's.

use axum::Json;
use axum::extract::State;
use host_domain::ids::SubscriptionId;
use host_domain::time::{format_duration, parse_duration};
use host_wire::values::time;
use host_wire::{
    CreateSubscriptionRequest, PageView, PartQuery, PaymentRecorded, PlaceView,
    RecordPaymentRequest, SubscriptionView, SubscriptionsQuery,
};
use http::StatusCode;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::Ops;
use super::auth::{Admin, Allowed, SubscriptionsRead, SubscriptionsWrite};
use super::edge::Tagged;
use super::extract::{At, IfMatch, IfMatchHeader, List, Valid};
use super::page::page_view;
use super::problem::Problem;
use crate::ops::{
    CreateNode, CreateSubscription, PaidSubscription, Principal, Scope, SubscriptionDetails,
    SubscriptionFilter,
};

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_subscriptions, create_subscription))
        .routes(routes!(get_subscription))
        .routes(routes!(cancel_subscription))
        .routes(routes!(record_payment))
        .routes(routes!(suspend_subscription))
        .routes(routes!(resume_subscription))
        .routes(routes!(end_subscription))
}

/// Which subscription.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described; `At` reads it")]
struct SubscriptionPath {
    /// Its id.
    id: Uuid,
}

/// Lists subscriptions, newest first.
#[utoipa::path(get, path = "/subscriptions", tag = "subscriptions", params(SubscriptionsQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<SubscriptionView>)))]
async fn list_subscriptions(
    State(ops): State<Ops>,
    who: Allowed<SubscriptionsRead>,
    List(query, part): List<SubscriptionsQuery>,
) -> Result<Json<PageView<SubscriptionView>>, Problem> {
    let filter = SubscriptionFilter {
        owner: query.owner,
        chain: query.chain,
        state: query.state.map(Into::into),
    };
    let found = ops.subscriptions.list(&who.0, &filter, &part).await?;
    Ok(Json(page_view(found, |one| subscription_view(one, &who.0))))
}

/// Makes a subscription that waits for its payment, or finds the equal one that does.
///
/// Equal are those of one owner, chain, node type and duration.
#[utoipa::path(post, path = "/subscriptions", tag = "subscriptions", request_body = CreateSubscriptionRequest,
    responses(
        (status = CREATED, description = "Made", body = SubscriptionView),
        (status = OK, description = "An equal one waits for its payment already", body = SubscriptionView)))]
async fn create_subscription(
    State(ops): State<Ops>,
    who: Allowed<SubscriptionsWrite>,
    Valid(wanted): Valid<CreateSubscriptionRequest>,
) -> Result<(StatusCode, Tagged<SubscriptionView>), Problem> {
    let duration = parse_duration(&wanted.duration)
        .map_err(|error| Problem::field("/duration", error.to_string()))?;
    let node = CreateNode {
        chain: wanted.chain,
        node_type: wanted.node_type.unwrap_or_default(),
        name: None,
        provider: wanted.provider,
        region: wanted.region,
        inputs: wanted.inputs,
    };
    let wanted = CreateSubscription { node, duration };
    let (found, is_new) = ops.subscriptions.create(&who.0, wanted).await?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, tagged(found, &who.0)))
}

/// Reads a subscription.
#[utoipa::path(get, path = "/subscriptions/{id}", tag = "subscriptions", params(SubscriptionPath),
    responses((status = OK, description = "The subscription; its `ETag` is the version for `If-Match`", body = SubscriptionView)))]
async fn get_subscription(
    State(ops): State<Ops>,
    who: Allowed<SubscriptionsRead>,
    At(id): At<SubscriptionId>,
) -> Result<Tagged<SubscriptionView>, Problem> {
    let found = ops.subscriptions.get(&who.0, id).await?;
    Ok(tagged(found, &who.0))
}

/// Cancels a subscription: it runs to the end of its term.
///
/// One that was never paid, or has no term, ends at once, and its node with it.
#[utoipa::path(post, path = "/subscriptions/{id}/cancel", tag = "subscriptions",
    params(SubscriptionPath, IfMatchHeader),
    responses((status = OK, description = "The subscription", body = SubscriptionView)))]
async fn cancel_subscription(
    State(ops): State<Ops>,
    who: Allowed<SubscriptionsWrite>,
    At(id): At<SubscriptionId>,
    IfMatch(version): IfMatch,
) -> Result<Tagged<SubscriptionView>, Problem> {
    let moved = ops.subscriptions.cancel(&who.0, id, version).await?;
    Ok(tagged(moved, &who.0))
}

/// Records a payment that was received elsewhere.
///
/// The first payment of a subscription makes its node, a further one prolongs its term; one that comes again changes nothing.
#[utoipa::path(post, path = "/admin/subscriptions/{id}/payments", tag = "subscriptions",
    params(SubscriptionPath), request_body = RecordPaymentRequest,
    responses((status = OK, description = "The subscription and what makes its node", body = PaymentRecorded)))]
async fn record_payment(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(id): At<SubscriptionId>,
    Valid(payment): Valid<RecordPaymentRequest>,
) -> Result<Json<PaymentRecorded>, Problem> {
    let recorded = ops
        .subscriptions
        .complete_payment(&who.0, id, &payment.payment_id);
    let PaidSubscription { paid, making } = recorded.await?;
    Ok(Json(PaymentRecorded {
        subscription: subscription_view(paid, &who.0),
        operation: making.map(Into::into),
    }))
}

/// Holds an active subscription: the clock does not move it, and its node runs on.
#[utoipa::path(post, path = "/admin/subscriptions/{id}/suspend", tag = "subscriptions",
    params(SubscriptionPath, IfMatchHeader),
    responses((status = OK, description = "The subscription", body = SubscriptionView)))]
async fn suspend_subscription(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(id): At<SubscriptionId>,
    IfMatch(version): IfMatch,
) -> Result<Tagged<SubscriptionView>, Problem> {
    let moved = ops.subscriptions.suspend(&who.0, id, version).await?;
    Ok(tagged(moved, &who.0))
}

/// Lets a suspended subscription go on.
#[utoipa::path(post, path = "/admin/subscriptions/{id}/resume", tag = "subscriptions",
    params(SubscriptionPath, IfMatchHeader),
    responses((status = OK, description = "The subscription", body = SubscriptionView)))]
async fn resume_subscription(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(id): At<SubscriptionId>,
    IfMatch(version): IfMatch,
) -> Result<Tagged<SubscriptionView>, Problem> {
    let moved = ops.subscriptions.resume(&who.0, id, version).await?;
    Ok(tagged(moved, &who.0))
}

/// Ends a suspended subscription, and its node with it.
#[utoipa::path(post, path = "/admin/subscriptions/{id}/end", tag = "subscriptions",
    params(SubscriptionPath, IfMatchHeader),
    responses((status = OK, description = "The subscription", body = SubscriptionView)))]
async fn end_subscription(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(id): At<SubscriptionId>,
    IfMatch(version): IfMatch,
) -> Result<Tagged<SubscriptionView>, Problem> {
    let moved = ops.subscriptions.end(&who.0, id, version).await?;
    Ok(tagged(moved, &who.0))
}

fn tagged(details: SubscriptionDetails, who: &Principal) -> Tagged<SubscriptionView> {
    let version = details.subscription.version;
    Tagged::new(version, subscription_view(details, who))
}

/// The subscription as a caller may see it.
fn subscription_view(details: SubscriptionDetails, who: &Principal) -> SubscriptionView {
    let SubscriptionDetails { subscription, node } = details;
    let place = PlaceView {
        provider: subscription.provider,
        region: subscription.region,
        instance_type: subscription.instance_type,
    };
    SubscriptionView {
        id: subscription.id.0,
        owner: subscription.owner,
        chain: subscription.chain_profile_id,
        node_type: subscription.node_type,
        duration: subscription.duration.map(format_duration),
        state: subscription.state.into(),
        node_id: node.map(|node| node.0),
        inputs: subscription.inputs,
        payment_id: subscription.payment_id,
        expires_at: subscription.expires_at.map(time),
        place: who.may(Scope::Admin).then_some(place),
        version: subscription.version,
        entered_at: time(subscription.entered_at),
        created_at: time(subscription.created_at),
        updated_at: time(subscription.updated_at),
    }
}
