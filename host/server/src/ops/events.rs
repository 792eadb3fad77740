//! Live events: what happened, as it happens, and from where a reader left off.

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::{LiveEvent, LiveFilter, OpError};
use crate::app::App;

/// Events that wait for a slow reader; a reader that falls further behind is cut off and resumes by number.
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
    /// Tells everybody who listens; nobody may.
    pub(crate) fn send(&self, event: LiveEvent) {
        drop(self.sender.send(event));
    }
}

/// What a reader of the stream gets.
#[derive(Clone, Debug, PartialEq)]
pub enum LiveItem {
    /// The stream begins after this number.
    Began(i64),
    /// Something happened.
    Event(Box<LiveEvent>),
    /// The reader was too slow; it should come again with the number of the last event that it has.
    TooSlow,
}

impl App {
    /// Events after the number `after`, and then live ones for as long as the reader keeps up.
    /// Without a number it begins with what happens next.
    pub async fn subscribe(
        &self,
        after: Option<i64>,
        filter: LiveFilter,
    ) -> Result<impl Stream<Item = LiveItem> + Send + use<>, OpError> {
        // Listening begins before the replay, so that nothing falls between the two.
        let live = BroadcastStream::new(self.events.sender.subscribe());
        let after = match after {
            Some(after) => after,
            None => self.db.event_log_last_seq().await?,
        };
        let replayed = self.replay(after).await?;
        // What was not read again would be a gap between the replay and what is live: such a reader comes again at once.
        let is_cut = replayed.len() >= WAITING_MAX;
        let newest = replayed.last().and_then(|event| event.seq).unwrap_or(after);
        let live = live
            .map(|event| event.map_or(LiveItem::TooSlow, |event| LiveItem::Event(Box::new(event))));
        let live = live.filter(move |item| {
            let is_new = match item {
                LiveItem::Event(event) => event.seq.is_none_or(|seq| seq > newest),
                LiveItem::Began(_) | LiveItem::TooSlow => true,
            };
            std::future::ready(is_new)
        });
        let wanted = move |item: &LiveItem| match item {
            LiveItem::Event(event) => filter.accepts(event),
            LiveItem::Began(_) | LiveItem::TooSlow => true,
        };
        let began = std::iter::once(LiveItem::Began(after));
        let cut = is_cut.then_some(LiveItem::TooSlow);
        let read = began
            .chain(
                replayed
                    .into_iter()
                    .map(|event| LiveItem::Event(Box::new(event))),
            )
            .chain(cut);
        let all = stream::iter(read).chain(live);
        Ok(all.filter(move |item| std::future::ready(wanted(item))))
    }

    /// At most [`WAITING_MAX`] rows are replayed at once; a reader that was away for longer comes again.
    async fn replay(&self, after: i64) -> Result<Vec<LiveEvent>, OpError> {
        let mut events: Vec<LiveEvent> = Vec::new();
        let mut last = after;
        while events.len() < WAITING_MAX {
            let rows = self.db.event_log_after(last, REPLAY_PAGE).await?;
            let Some(newest) = rows.last().map(|row| row.seq) else {
                break;
            };
            last = newest;
            events.extend(rows.into_iter().filter_map(LiveEvent::read));
        }
        Ok(events)
    }
}
