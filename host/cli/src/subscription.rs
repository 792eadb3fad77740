//! `bellwether subscription`: subscriptions, each of which pays for a node.

use clap::{Args, Subcommand};
use host_wire::{
    CreateSubscriptionRequest, PaymentRecorded, RecordPaymentRequest, SubscriptionState,
    SubscriptionView, SubscriptionsQuery, parse_word,
};
use uuid::Uuid;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::node::pair;
use super::output::{self, ago, plain, word};

/// Commands on subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionCommand {
    /// List subscriptions
    List(ListArgs),
    /// Show a subscription
    Get {
        /// Id of the subscription
        id: Uuid,
    },
    /// Create a subscription that awaits its payment; an equal one that awaits its payment is reused
    Create(CreateArgs),
    /// Cancel a subscription; it runs until the end of its term
    Cancel {
        /// Id of the subscription
        id: Uuid,
    },
    /// Record a payment that was received elsewhere; the first one creates the node
    RecordPayment {
        /// Id of the subscription
        id: Uuid,
        /// Id of the payment where it was received, such as an invoice number; it counts once
        payment: String,
    },
}

/// Filters of subscriptions.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only subscriptions of this chain
    #[arg(long)]
    chain: Option<String>,
    /// Only subscriptions in this state, such as `past_due`
    #[arg(long, value_parser = parse_word::<SubscriptionState>)]
    state: Option<SubscriptionState>,
    /// Only subscriptions of this owner; for administrators
    #[arg(long)]
    owner: Option<String>,
}

/// The new subscription.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Id of the chain, such as `anvil-devnet`
    #[arg(long)]
    chain: String,
    /// Term that one payment buys, such as `30d`
    #[arg(long)]
    duration: String,
    /// Node type; default: the chain's only one
    #[arg(long = "type", value_name = "TYPE")]
    node_type: Option<String>,
    /// Machine provider; default: the node type's first one
    #[arg(long)]
    provider: Option<String>,
    /// Region; default: the provider's default region
    #[arg(long)]
    region: Option<String>,
    /// Value of an input of the chain; repeat for further inputs
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
    let filter = SubscriptionsQuery {
        state: args.state,
        chain: args.chain,
        owner: args.owner,
    };
    let path = "/api/v1/subscriptions";
    let value = session.client()?.list(path, &filter).await?;
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
    output::show(&table, "There are no subscriptions.");
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
    let path = "/api/v1/subscriptions";
    let value = session.client()?.post(path, &request).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let one: SubscriptionView = typed(value)?;
    output::say(&format!(
        "Subscription {} awaits its payment; record one with `bellwether subscription record-payment {} PAYMENT`.",
        one.id, one.id
    ));
    Ok(())
}

async fn cancel(id: Uuid, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/subscriptions/{id}/cancel");
    let value = session.client()?.post_empty(&path).await?;
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
    let value = session.client()?.post(&path, &request).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let recorded: PaymentRecorded = typed(value)?;
    let until = until(&recorded.subscription);
    output::say(&format!("Subscription {id} is paid until {until}."));
    if let Some(creation) = recorded.operation.filter(|creation| !creation.is_over()) {
        output::say(&format!(
            "Its node is being created; follow the operation with `bellwether operation get {} --wait`.",
            creation.id
        ));
    }
    Ok(())
}

/// The term that one payment buys.
fn term(one: &SubscriptionView) -> String {
    one.duration.clone().unwrap_or_else(|| "none".to_owned())
}

/// The end of the paid term.
fn until(one: &SubscriptionView) -> String {
    one.expires_at.map(|at| at.to_string()).unwrap_or_default()
}
