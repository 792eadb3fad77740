//! The stream of live events, from where a reader left off.

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use super::records::Records;
use super::{LiveEvent, LiveFilter, OpError};

/// Events that wait for a slow reader. A reader that falls further behind is disconnected and resumes by number.
const WAITING_MAX: usize = 1_024;
/// Rows of the log that are read at once.
const REPLAY_PAGE: u32 = 500;

/// The feed of this process.
#[derive(Clone, Debug)]
pub(crate) struct LiveEvents {
    sender: broadcast::Sender<LiveEvent>,
}

impl Default for LiveEvents {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(WAITING_MAX).0,
        }
    }
}

impl LiveEvents {
    /// Sends an event to every reader, if there is one.
    pub(crate) fn send(&self, event: LiveEvent) {
        drop(self.sender.send(event));
    }
}

/// What a reader of the stream gets.
#[derive(Clone, Debug, PartialEq)]
pub enum LiveItem {
    /// The stream starts after this number.
    Started(i64),
    /// Something happened.
    Event(Box<LiveEvent>),
    /// The reader was too slow; it should reconnect with the number of its last event.
    TooSlow,
}

/// The stream of live events.
#[derive(Clone)]
pub struct EventStream {
    records: Records,
    live: LiveEvents,
    shutdown: CancellationToken,
}

impl EventStream {
    pub(crate) fn new(records: Records, live: LiveEvents, shutdown: CancellationToken) -> Self {
        Self {
            records,
            live,
            shutdown,
        }
    }

    /// Completes when the host stops, and its streams end.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shutdown.clone().cancelled_owned()
    }

    /// Events after the number `after`, and then live ones for as long as the reader keeps up.
    /// Without a number the stream starts with the next event.
    pub async fn subscribe(
        &self,
        after: Option<i64>,
        filter: LiveFilter,
    ) -> Result<impl Stream<Item = LiveItem> + Send + use<>, OpError> {
        // The subscription precedes the replay, so that no event is lost between the two.
        let live = BroadcastStream::new(self.live.sender.subscribe());
        let after = match after {
            Some(after) => after,
            None => self.records.db.event_log_last_seq().await?,
        };
        let replayed = self.replay(after).await?;
        // An incomplete replay would leave a gap before the live events: such a reader reconnects immediately.
        let is_cut = replayed.len() >= WAITING_MAX;
        let newest = replayed.last().and_then(|event| event.seq).unwrap_or(after);
        let live = live
            .map(|event| event.map_or(LiveItem::TooSlow, |event| LiveItem::Event(Box::new(event))));
        let live = live.filter(move |item| {
            let is_new = match item {
                LiveItem::Event(event) => event.seq.is_none_or(|seq| seq > newest),
                LiveItem::Started(_) | LiveItem::TooSlow => true,
            };
            std::future::ready(is_new)
        });
        let accepts = move |item: &LiveItem| match item {
            LiveItem::Event(event) => filter.accepts(event),
            LiveItem::Started(_) | LiveItem::TooSlow => true,
        };
        let began = std::iter::once(LiveItem::Started(after));
        let cut = is_cut.then_some(LiveItem::TooSlow);
        let read = began
            .chain(
                replayed
                    .into_iter()
                    .map(|event| LiveItem::Event(Box::new(event))),
            )
            .chain(cut);
        let all = stream::iter(read).chain(live);
        Ok(all.filter(move |item| std::future::ready(accepts(item))))
    }

    /// Replays at most about [`WAITING_MAX`] rows; a reader that missed more reconnects.
    async fn replay(&self, after: i64) -> Result<Vec<LiveEvent>, OpError> {
        let mut events: Vec<LiveEvent> = Vec::new();
        let mut last = after;
        while events.len() < WAITING_MAX {
            let rows = self.records.db.event_log_after(last, REPLAY_PAGE).await?;
            let Some(newest) = rows.last().map(|row| row.seq) else {
                break;
            };
            last = newest;
            events.extend(rows.into_iter().filter_map(LiveEvent::read));
        }
        Ok(events)
    }
}
