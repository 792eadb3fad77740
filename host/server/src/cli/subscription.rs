//! `bellwether subscription`: what nodes are paid by.

use clap::{Args, Subcommand};
use serde_json::Value;
use uuid::Uuid;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::node::pair;
use super::output::{self, ago, plain, word};
use crate::api::{
    CreateSubscriptionRequest, PaymentRecorded, RecordPaymentRequest, SubscriptionState,
    SubscriptionView,
};

/// What to do with subscriptions.
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// Lists subscriptions.
    List(ListArgs),
    /// Shows a subscription.
    Get {
        /// The subscription.
        id: Uuid,
    },
    /// Makes a subscription that waits for its payment, or finds the equal one that does.
    Create(CreateArgs),
    /// Cancels a subscription: it runs to the end of its term.
    Cancel {
        /// The subscription.
        id: Uuid,
    },
    /// Records a payment that was received elsewhere; the first one makes the node.
    RecordPayment {
        /// The subscription.
        id: Uuid,
        /// The payment's name where it was received; it counts once.
        payment: String,
    },
}

/// Which subscriptions.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of one chain.
    #[arg(long)]
    chain: Option<String>,
    /// In one state, such as `past_due`.
    #[arg(long)]
    state: Option<String>,
    /// Of one owner; for admins.
    #[arg(long)]
    owner: Option<String>,
}

/// What the subscription shall be.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Chain profile id, such as `anvil-devnet`.
    #[arg(long)]
    chain: String,
    /// What one payment buys, such as `30d`.
    #[arg(long)]
    duration: String,
    /// One of the chain's node types.
    #[arg(long = "type", value_name = "TYPE")]
    node_type: Option<String>,
    /// One of the node type's providers.
    #[arg(long)]
    provider: Option<String>,
    /// One of the provider's regions.
    #[arg(long)]
    region: Option<String>,
    /// A value that the chain asks for, as NAME=VALUE.
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = pair)]
    inputs: Vec<(String, String)>,
}

pub(crate) async fn run(command: SubscriptionCommand, session: &Session) -> Result<(), CliError> {
    match command {
        SubscriptionCommand::List(args) => list(args, session).await,
        SubscriptionCommand::Get { id } => get(id, session).await,
        SubscriptionCommand::Create(args) => create(args, session).await,
        SubscriptionCommand::Cancel { id } => cancel(id, session).await,
        SubscriptionCommand::RecordPayment { id, payment } => {
            record_payment(id, payment, session).await
        }
    }
}

async fn list(args: ListArgs, session: &Session) -> Result<(), CliError> {
    let query = [
        ("chain", args.chain),
        ("state", args.state),
        ("owner", args.owner),
    ];
    let query = query
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let query: Vec<(&str, String)> = query.collect();
    let path = "/api/v1/subscriptions";
    let value = session.client()?.list(path, &query).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let found: Vec<SubscriptionView> = typed(value)?;
    let mut table = output::table(&[
        "owner", "chain", "type", "term", "state", "until", "age", "id",
    ]);
    for one in found {
        table.add_row([
            plain(&one.owner).into(),
            one.chain.as_str().into(),
            one.node_type.as_str().into(),
            term(&one).into(),
            output::state(&word(one.state)),
            until(&one).into(),
            ago(one.created_at).into(),
            one.id.to_string().into(),
        ]);
    }
    output::show(&table, "There is no subscription.");
    Ok(())
}

async fn get(id: Uuid, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/subscriptions/{id}");
    let value = session.client()?.get(&path).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let one: SubscriptionView = typed(value)?;
    output::say(&format!("Subscription {}", one.id));
    let mut table = output::table(&["field", "value"]);
    let node = one.node_id.map(|node| node.to_string());
    for (field, value) in [
        ("owner", plain(&one.owner)),
        ("chain", format!("{}, {}", one.chain, one.node_type)),
        ("term", term(&one)),
        ("state", word(one.state)),
        ("since", one.entered_at.to_string()),
        ("paid until", until(&one)),
        ("last payment", one.payment_id.clone().unwrap_or_default()),
        ("node", node.unwrap_or_default()),
    ] {
        table.add_row([field, &value]);
    }
    output::show(&table, "");
    Ok(())
}

async fn create(args: CreateArgs, session: &Session) -> Result<(), CliError> {
    let request = CreateSubscriptionRequest {
        chain: args.chain,
        duration: args.duration,
        node_type: args.node_type,
        provider: args.provider,
        region: args.region,
        inputs: args.inputs.into_iter().collect(),
    };
    let body = serde_json::to_value(&request).map_err(anyhow::Error::new)?;
    let path = "/api/v1/subscriptions";
    let value = session.client()?.post(path, Some(&body)).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let one: SubscriptionView = typed(value)?;
    output::say(&format!(
        "Subscription {} waits for its payment; `bellwether subscription record-payment {} NAME` records one.",
        one.id, one.id
    ));
    Ok(())
}

async fn cancel(id: Uuid, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/subscriptions/{id}/cancel");
    let value: Value = session.client()?.post(&path, None).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let one: SubscriptionView = typed(value)?;
    let what = if one.state == SubscriptionState::Canceled {
        format!("is cancelled and runs until {}", until(&one))
    } else {
        format!("is `{}`", word(one.state))
    };
    output::say(&format!("Subscription {id} {what}."));
    Ok(())
}

async fn record_payment(id: Uuid, payment: String, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/subscriptions/{id}/payments");
    let request = RecordPaymentRequest {
        payment_id: payment,
    };
    let body = serde_json::to_value(&request).map_err(anyhow::Error::new)?;
    let value = session.client()?.post(&path, Some(&body)).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let recorded: PaymentRecorded = typed(value)?;
    let until = until(&recorded.subscription);
    output::say(&format!("Subscription {id} is paid until {until}."));
    if let Some(making) = recorded.operation.filter(|making| !making.is_over()) {
        output::say(&format!(
            "Its node is being made; follow it with `bellwether operation get {} --wait`.",
            making.id
        ));
    }
    Ok(())
}

/// What one payment buys.
fn term(one: &SubscriptionView) -> String {
    one.duration.clone().unwrap_or_else(|| "none".to_owned())
}

/// Until when it is paid.
fn until(one: &SubscriptionView) -> String {
    one.expires_at.map(|at| at.to_string()).unwrap_or_default()
}
