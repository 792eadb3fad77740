//! The exchange between a workflow's code and Temporal: the commands of the code and the answers to them.
//!
//! The code is polled only after all jobs of an activation are stored here, so a replay makes the same decisions. A
//! future takes a message when it is polled, not when it is created, so a dropped wait consumes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use host_workflows::{Failure, TryFailed};
use temporalio_common::protos::coresdk::workflow_commands::workflow_command::Variant as Command;
use temporalio_common::protos::coresdk::workflow_commands::{
    CancelChildWorkflowExecution, CancelTimer, RequestCancelActivity,
};

/// A desk that the workflow's futures and its run share.
pub(super) type SharedDesk = Arc<Mutex<Desk>>;

/// The commands of the code and their answers.
#[derive(Default)]
pub(super) struct Desk {
    last_seq: u32,
    /// Commands for Temporal, in the code's order.
    pub(super) commands: Vec<Command>,
    pending: BTreeMap<u32, Pending>,
    /// Unread messages.
    pub(super) mailboxes: BTreeMap<String, VecDeque<String>>,
    /// Why the workflow was cancelled.
    pub(super) cancelled: Option<String>,
    /// The last progress.
    pub(super) progress: Option<String>,
    /// The input of the next execution, once the code requested one.
    pub(super) again: Option<String>,
}

/// A command whose answer the code awaits.
struct Pending {
    what: What,
    answer: Option<Answer>,
}

/// The kind of a command, as far as withdrawing it depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// An attempt of an activity.
    Try {
        /// Whether a cancel of the workflow does not affect it.
        shielded: bool,
        /// Whether it was asked to stop.
        stopped: bool,
    },
    /// A timer.
    Timer,
    /// Another workflow.
    Child,
}

/// The answer to a command.
#[derive(Debug)]
pub(super) enum Answer {
    /// An attempt of an activity.
    Try(Result<String, TryFailed>),
    /// A timer.
    Timer,
    /// Another workflow.
    Child(Result<String, Failure>),
}

impl Desk {
    /// Records a command; `command` turns its number into the message for Temporal.
    pub(super) fn ask(&mut self, what: What, command: impl FnOnce(u32) -> Command) -> u32 {
        self.last_seq += 1;
        let seq = self.last_seq;
        self.commands.push(command(seq));
        self.pending.insert(seq, Pending { what, answer: None });
        seq
    }

    /// Stores an answer, unless nobody waits for it any more.
    pub(super) fn answer(&mut self, seq: u32, answer: Answer) {
        if let Some(pending) = self.pending.get_mut(&seq) {
            pending.answer = Some(answer);
        }
    }

    /// Asks every running attempt that is not shielded to stop.
    pub(super) fn stop_tries(&mut self) {
        for (seq, pending) in &mut self.pending {
            if let (
                What::Try {
                    shielded: false,
                    stopped: stopped @ false,
                },
                None,
            ) = (&mut pending.what, &pending.answer)
            {
                *stopped = true;
                self.commands
                    .push(Command::RequestCancelActivity(RequestCancelActivity {
                        seq: *seq,
                    }));
            }
        }
    }

    fn take_answer(&mut self, seq: u32) -> Option<Answer> {
        self.pending.get_mut(&seq)?.answer.take().inspect(|_| {
            self.pending.remove(&seq);
        })
    }

    /// Withdraws a command that was not answered.
    fn take_back(&mut self, seq: u32) {
        let Some(Pending { what, answer: None }) = self.pending.remove(&seq) else {
            return;
        };
        self.commands.push(match what {
            What::Try { stopped: true, .. } => return,
            What::Try { stopped: false, .. } => {
                Command::RequestCancelActivity(RequestCancelActivity { seq })
            }
            What::Timer => Command::CancelTimer(CancelTimer { seq }),
            What::Child => Command::CancelChildWorkflowExecution(CancelChildWorkflowExecution {
                child_workflow_seq: seq,
                reason: self
                    .cancelled
                    .clone()
                    .unwrap_or_else(|| "the parent workflow no longer waits for it".to_owned()),
            }),
        });
    }
}

/// Locks the desk; no holder panics halfway, so even a poisoned lock protects consistent data.
pub(super) fn locked(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the answer to a command; when dropped earlier, withdraws the command.
pub(super) struct Answered {
    desk: SharedDesk,
    seq: u32,
}

impl Answered {
    /// Waits for the answer to the command of that number.
    pub(super) fn to(desk: &SharedDesk, seq: u32) -> Self {
        Self {
            desk: Arc::clone(desk),
            seq,
        }
    }
}

impl Future for Answered {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        match locked(&self.desk).take_answer(self.seq) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        locked(&self.desk).take_back(self.seq);
    }
}

/// Waits until `look` finds a value on the desk.
pub(super) struct Until<F> {
    desk: SharedDesk,
    look: F,
}

impl<F> Until<F> {
    /// Waits until `look` returns a value.
    pub(super) fn new(desk: &SharedDesk, look: F) -> Self {
        Self {
            desk: Arc::clone(desk),
            look,
        }
    }
}

impl<T, F: FnMut(&mut Desk) -> Option<T> + Unpin> Future for Until<F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        match (this.look)(&mut locked(&this.desk)) {
            Some(found) => Poll::Ready(found),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use temporalio_common::protos::coresdk::workflow_commands::StartTimer;

    use super::*;

    fn timer(seq: u32) -> Command {
        Command::StartTimer(StartTimer {
            seq,
            ..StartTimer::default()
        })
    }

    #[test]
    fn what_nobody_waits_for_is_taken_back_once_and_only_before_its_answer() {
        let desk = SharedDesk::default();
        let ask = |what| locked(&desk).ask(what, timer);
        let [given_up, answered] = [What::Timer, What::Timer].map(ask);
        drop(Answered::to(&desk, given_up));
        locked(&desk).answer(given_up, Answer::Timer);
        let waits = Answered::to(&desk, answered);
        locked(&desk).answer(answered, Answer::Timer);
        drop(waits);
        let expected = [
            timer(1),
            timer(2),
            Command::CancelTimer(CancelTimer { seq: given_up }),
        ];
        assert_eq!(locked(&desk).commands, expected);
    }

    #[test]
    fn a_cancel_stops_each_running_try_once_and_spares_the_shielded() {
        let desk = SharedDesk::default();
        for shielded in [false, true] {
            let what = What::Try {
                shielded,
                stopped: false,
            };
            locked(&desk).ask(what, timer);
        }
        locked(&desk).commands.clear();
        locked(&desk).stop_tries();
        locked(&desk).stop_tries();
        let stop = Command::RequestCancelActivity(RequestCancelActivity { seq: 1 });
        assert_eq!(locked(&desk).commands, [stop]);
        drop(Answered::to(&desk, 1));
        assert_eq!(locked(&desk).commands.len(), 1, "the stop was sent already");
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_the_message() {
        let desk = SharedDesk::default();
        let mut message = Until::new(&desk, |desk: &mut Desk| {
            desk.mailboxes.get_mut("box")?.pop_front()
        });
        drop(Until::new(&desk, |desk: &mut Desk| {
            desk.mailboxes.get_mut("box")?.pop_front()
        }));
        let mailbox = VecDeque::from(["1".to_owned(), "2".to_owned()]);
        locked(&desk).mailboxes.insert("box".to_owned(), mailbox);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for expected in ["1", "2"] {
            let next = Pin::new(&mut message).poll(&mut cx);
            assert_eq!(next, Poll::Ready(expected.to_owned()));
        }
        assert_eq!(Pin::new(&mut message).poll(&mut cx), Poll::Pending);
    }
}
