//! `/api/v1/events`: what happens, as it happens, as server-sent events.
//!
//! Each stored event has a number, which is the `id` of its server-sent event; a client that comes back with
//! `Last-Event-ID` misses nothing. Nothing is buffered for a slow client beyond what the feed holds: it is cut with a last
//! event that says so, and comes again.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use host_domain::ids::{ApiKeyId, NodeId};
use host_wire::{CONNECTED, CUT, EventView, EventsQuery, KINDS, LAST_EVENT_ID, StreamCut};
use http::HeaderMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Allowed, NodesRead};
use super::extract::Params;
use super::problem::Problem;
use crate::ops::{LiveEvent, LiveFilter, LiveItem};

mod views;

/// A comment keeps proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a browser waits before it comes again.
const COME_AGAIN: Duration = Duration::from_secs(1);

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new().routes(routes!(stream_events))
}

/// Streams what happens.
///
/// The first event is `connected`, with the number after which the stream begins. Each later event has the kind as its `event`, the number as its `id` (observations have none) and this JSON as its
/// `data`. The last event of a stream that the host ends is `cut`; connect again with `Last-Event-ID`.
#[utoipa::path(get, path = "/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<i64>, Header, description = "Number of the last event that the client has")),
    responses((status = OK, description = "The stream", content_type = "text/event-stream", body = EventView)))]
async fn stream_events(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    Extension(key): Extension<ApiKeyId>,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let after = last_event_id(&headers)?.or(query.after);
    let filter = LiveFilter {
        node: query.node.map(NodeId),
        chain: query.chain,
        kinds: kinds(query.kind.as_deref())?,
    };
    let items = ops.events.subscribe(after, filter).await?;
    let (shutdown, ended) = (ops.events.ended(), ops.api_keys.ended(key));
    let until = async move {
        tokio::select! { () = shutdown => {}, () = ended => {} }
    };
    let events = until_cut(items)
        .take_until(until)
        .chain(stream::iter([Sent::Cut("ended")]));
    // The first cut is the last event.
    let events = events.scan(false, |is_over, sent| {
        let before = std::mem::replace(is_over, *is_over || matches!(sent, Sent::Cut(_)));
        std::future::ready((!before).then_some(sent))
    });
    Ok(Sse::new(events.map(written).map(Ok))
        .keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive")))
}

enum Sent {
    Began(i64),
    Event(Box<LiveEvent>),
    Cut(&'static str),
}

fn until_cut(items: impl Stream<Item = LiveItem>) -> impl Stream<Item = Sent> {
    items.map(|item| match item {
        LiveItem::Started(seq) => Sent::Began(seq),
        LiveItem::Event(event) => Sent::Event(event),
        LiveItem::TooSlow => Sent::Cut("too_slow"),
    })
}

fn written(sent: Sent) -> Event {
    match sent {
        // Carries a number, so that a client that is cut before anything happens can resume too.
        Sent::Began(seq) => Event::default()
            .retry(COME_AGAIN)
            .event(CONNECTED)
            .id(seq.to_string())
            .data("{}"),
        Sent::Event(event) => {
            let seq = event.seq;
            let kind = event.what.kind();
            let view = views::event_view(*event);
            // JSON escapes line breaks, so the data is always one line.
            let json = serde_json::to_string(&view).unwrap_or_default();
            let written = Event::default().event(kind).data(json);
            match seq {
                Some(seq) => written.id(seq.to_string()),
                None => written,
            }
        }
        Sent::Cut(reason) => {
            let cut = StreamCut {
                reason: reason.to_owned(),
            };
            let json = serde_json::to_string(&cut).unwrap_or_default();
            Event::default().event(CUT).data(json)
        }
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let number = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| {
        Problem::parameter(
            "Last-Event-ID",
            "is no number; send the `id` of the last event as it is",
        )
    })
}

fn kinds(text: Option<&str>) -> Result<Vec<String>, Problem> {
    let named = text.into_iter().flat_map(|text| text.split(','));
    let named = named.map(str::trim).filter(|kind| !kind.is_empty());
    named
        .map(|kind| {
            if KINDS.contains(&kind) {
                return Ok(kind.to_owned());
            }
            let detail = format!(
                "`{kind}` is no kind of event; there are {}",
                KINDS.join(", ")
            );
            Err(Problem::parameter("kind", detail))
        })
        .collect()
}
