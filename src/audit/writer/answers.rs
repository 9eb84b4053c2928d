//! Answers the calls of a round. Waking a task from another thread costs a system call, so the answers are grouped by
//! runtime, and each runtime is woken only once.

use tokio::runtime::Handle;

use crate::audit::AuditError;
use crate::audit::state::{Outcome, Waiter};

/// A waiter, and the answer that it gets once its line is written.
pub(super) struct Answer {
    pub waiter: Waiter,
    pub outcome: Outcome,
}

impl Answer {
    /// Sends the answer to the waiter. `is_written` says whether the waiter's line is written, and synced if the log is
    /// synced.
    pub fn give(self, is_written: bool) {
        let outcome = match is_written {
            true => self.outcome,
            false => Err(AuditError.into()),
        };
        let _ = self.waiter.sender.send(outcome); // its call may have hit the deadline
    }
}

/// Sends the answers of a round to all its waiters. `is_written` says whether the lines are written, and synced if the
/// log is synced.
pub(super) fn give(answers: Vec<Answer>, is_written: bool) {
    let mut runtimes: Vec<(Handle, Vec<Answer>)> = Vec::new();
    for answer in answers {
        let runtime = &answer.waiter.runtime;
        match runtimes.iter_mut().find(|(r, _)| r.id() == runtime.id()) {
            Some((_, own)) => own.push(answer),
            None => runtimes.push((runtime.clone(), vec![answer])),
        }
    }
    for (runtime, answers) in runtimes {
        let is_alone = answers.len() == 1;
        let give = move || answers.into_iter().for_each(|a| a.give(is_written));
        if is_alone {
            give();
        } else {
            // On a thread of the runtime, waking its tasks is no system call. A runtime that has ended drops
            // the answers, and has dropped the calls.
            drop(runtime.spawn(async move { give() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    /// Calls that wait on a runtime, and their answers.
    fn waiting(on: &Runtime, count: usize) -> (Vec<JoinHandle<Outcome>>, Vec<Answer>) {
        let (mut calls, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (sender, told) = oneshot::channel();
            calls.push(on.spawn(async move { told.await.unwrap_or(Err(AuditError.into())) }));
            let waiter = Waiter {
                length: 0,
                leaf: None,
                runtime: on.handle().clone(),
                sender,
            };
            answers.push(Answer {
                waiter,
                outcome: Ok(None),
            });
        }
        on.block_on(tokio::task::yield_now());
        (calls, answers)
    }

    #[test]
    fn each_runtime_is_woken_once_for_a_round() {
        let runtimes = [runtime(), runtime(), runtime()];
        for is_written in [true, false] {
            let (mut calls, mut answers) = (Vec::new(), Vec::new());
            for (runtime, count) in runtimes.iter().zip([3, 20, 1]) {
                let (own_calls, own_answers) = waiting(runtime, count);
                calls.push(own_calls);
                answers.extend(own_answers);
            }
            let half = answers.len() / 2;
            answers.rotate_left(half);
            give(answers, is_written);
            for (runtime, calls) in runtimes.iter().zip(calls) {
                assert_eq!(runtime.metrics().global_queue_depth(), 1);
                for call in calls {
                    let told = runtime.block_on(call).unwrap();
                    assert_eq!(matches!(told, Ok(None)), is_written);
                }
            }
        }
    }

    #[test]
    fn calls_of_a_runtime_that_has_ended_stop_nobody() {
        let (ended, other) = (runtime(), runtime());
        let (_, mut answers) = waiting(&ended, 2);
        let (calls, others) = waiting(&other, 2);
        answers.extend(others);
        drop(ended);
        give(answers, true);
        for call in calls {
            assert!(matches!(other.block_on(call).unwrap(), Ok(None)));
        }
    }
}
