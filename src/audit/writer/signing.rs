//! Signs the leaves of a round together, and records what was signed, before the round is written. This module does not
//! know what the leaves stand for.

use serde_json::json;
use serde_json::value::to_raw_value;

use super::KEEP;
use super::answers::Answer;
use crate::audit::record::{SourceAddress, record};
use crate::audit::state::{Shared, Waiter};
use crate::audit::{AuditError, SignError, line, uuid};
use crate::base::digest::hex;
use crate::session::batch::{Batch, Leaf, Proof};

/// The result of signing one leaf: its proof and, for the last of several leaves that were signed
/// together, the line that records the signature.
struct Signed {
    proof: Result<Proof, SignError>,
    record: Option<Vec<u8>>,
}

/// Signs the leaves of these waiters, and returns the answer for each waiter. `lines` contains the lines of all
/// waiters, in the same order. Lines of calls whose leaf cannot be signed are removed from it. A line that records a
/// signature for several calls is inserted after the line of the last of them. `spare` is a buffer that is kept between
/// rounds.
pub(super) fn sign(
    shared: &Shared,
    waiters: Vec<Waiter>,
    lines: &mut Vec<u8>,
    spare: &mut Vec<u8>,
) -> Vec<Answer> {
    let leaves: Vec<&Leaf> = waiters.iter().filter_map(|w| w.leaf.as_ref()).collect();
    let has_leaves = !leaves.is_empty();
    let mut signed = signatures(shared, &leaves).into_iter();
    spare.clear();
    let mut rest = lines.as_slice();
    let mut answers = Vec::with_capacity(waiters.len());
    for waiter in waiters {
        let signed = match &waiter.leaf {
            Some(_) => signed.next(),
            None => None,
        };
        let (outcome, record) = match (&waiter.leaf, signed) {
            (None, _) => (Ok(None), None),
            (Some(_), Some(Signed { proof, record })) => (proof.map(Some), record),
            // There is one for each leaf.
            (Some(_), None) => (Err(AuditError.into()), None),
        };
        let (line, after) = rest.split_at_checked(waiter.length).unwrap_or((rest, &[]));
        rest = after;
        if outcome.is_ok() && has_leaves {
            spare.extend_from_slice(line);
        }
        spare.extend(record.into_iter().flatten());
        answers.push(Answer { waiter, outcome });
    }
    if has_leaves {
        std::mem::swap(lines, spare);
    }
    if spare.capacity() > KEEP {
        *spare = Vec::new();
    }
    answers
}

/// Signs leaves, as many as possible with each signature. Returns one result for each.
fn signatures(shared: &Shared, leaves: &[&Leaf]) -> Vec<Signed> {
    let mut all = Vec::with_capacity(leaves.len());
    let mut rest = leaves;
    while !rest.is_empty() {
        let (count, batch) = Batch::sign(rest.iter().copied());
        // At least one is taken, so that this ends.
        let (taken, after) = rest.split_at_checked(count.max(1)).unwrap_or((rest, &[]));
        rest = after;
        let recorded = batch.map_err(SignError::from).and_then(|batch| {
            shared.metrics.token_signatures.inc();
            let record = match batch.size() {
                1 => None,
                _ => Some(line_of(shared, &batch)?),
            };
            Ok((batch, record))
        });
        match recorded {
            Ok((batch, record)) => {
                all.extend(batch.proofs().map(|proof| Signed {
                    proof: Ok(proof),
                    record: None,
                }));
                if let Some(last) = all.last_mut() {
                    last.record = record;
                }
            }
            Err(error) => all.extend(taken.iter().map(|_| Signed {
                proof: Err(error),
                record: None,
            })),
        }
    }
    all
}

/// Makes the line that records a signature for several calls.
fn line_of(shared: &Shared, batch: &Batch) -> Result<Vec<u8>, AuditError> {
    let now = shared.clock.now();
    let mut record = record("SignSessionTokens", now, "", uuid(&*shared.entropy));
    record.event_type = "BrevetSignature";
    record.event_source = "brevet";
    record.user_identity.r#type = "Broker".into();
    record.aws_region = shared.region.as_str().into();
    record.source_ip_address = SourceAddress::Host("localhost");
    record.additional_event_data = to_raw_value(&json!({
        "keyId": format!("{:08x}", batch.key_id()),
        "treeSize": batch.size(),
        "rootHash": hex(&batch.root()),
    }))
    .ok();
    line::whole(&record)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Condvar, Mutex};

    use serde_json::Value;
    use tokio::runtime::Handle;
    use tokio::sync::oneshot::{self, Receiver};

    use super::*;
    use crate::audit::state::{Outcome, State};
    use crate::base::clock::{Clock, ManualClock, Timestamp};
    use crate::base::entropy::SystemEntropy;
    use crate::metrics::Metrics;
    use crate::session::batch::VerifiedRoots;
    use crate::session::keyring::Keyring;
    use crate::session::merkle::{Hash, Tree};
    use crate::session::token::{self, Claims};

    fn shared() -> Shared {
        let clock = ManualClock::new(Timestamp::from_seconds(1_700_000_000));
        Shared {
            state: Mutex::new(State::new(clock.monotonic())),
            work: Condvar::new(),
            clock: Arc::new(clock),
            entropy: Arc::new(SystemEntropy::new()),
            metrics: Arc::new(Metrics::new()),
            region: "us-east-1".into(),
        }
    }

    fn keyring() -> Arc<Keyring> {
        let now = Timestamp::from_seconds(1);
        Arc::new(Keyring::generate(&SystemEntropy::new(), now).unwrap())
    }

    /// A round: its waiters, their lines, and what they are told.
    #[derive(Default)]
    struct Round {
        waiters: Vec<Waiter>,
        lines: Vec<u8>,
        told: Vec<Receiver<Outcome>>,
    }

    impl Round {
        fn wait(&mut self, name: &str, leaf: Option<Leaf>) {
            let line = format!("{{\"name\":\"{name}\"}}\n");
            self.lines.extend_from_slice(line.as_bytes());
            let (sender, told) = oneshot::channel();
            self.told.push(told);
            self.waiters.push(Waiter {
                length: line.len(),
                leaf,
                runtime: Handle::current(),
                sender,
            });
        }

        /// Signs and answers. Returns the lines, and what each waiter was told.
        fn sign(mut self, shared: &Shared, is_written: bool) -> (Vec<Value>, Vec<Outcome>) {
            let answers = sign(shared, self.waiters, &mut self.lines, &mut Vec::new());
            answers.into_iter().for_each(|a| a.give(is_written));
            let lines = std::str::from_utf8(&self.lines).unwrap().lines();
            let told = self.told.iter_mut().map(|told| told.try_recv().unwrap());
            (
                lines.map(|l| serde_json::from_str(l).unwrap()).collect(),
                told.collect(),
            )
        }
    }

    #[tokio::test]
    async fn one_signature_is_for_all_calls_of_a_round_and_is_recorded() {
        let (shared, keyring) = (shared(), keyring());
        let tokens: Vec<_> = (0..130)
            .map(|n| token::unsigned(&keyring, &Claims::default(), &[n; 16]).unwrap())
            .collect();
        let mut round = Round::default();
        round.wait("before", None);
        for token in &tokens {
            round.wait("call", Some(token.leaf(keyring.clone())));
        }
        round.wait("after", None);
        let (lines, told) = round.sign(&shared, true);
        assert_eq!(shared.metrics.token_signatures.get(), 3);
        let records = lines.iter().enumerate().filter_map(|(at, line)| {
            let data = &line["additionalEventData"];
            let signed = (data["treeSize"].as_u64()?, data["rootHash"].as_str()?);
            assert_eq!(line["eventName"], "SignSessionTokens");
            assert_eq!(line["eventType"], "BrevetSignature");
            Some((at, signed))
        });
        let root = |from: usize, to: usize| {
            let leaf = |token: &crate::session::envelope::Unsigned| -> Hash {
                *token.leaf(keyring.clone()).hash()
            };
            let leaves = tokens[from..to].iter().map(leaf).collect();
            hex(&Tree::new(leaves).unwrap().root())
        };
        let roots = [root(0, 64), root(64, 128), root(128, 130)];
        let expected = [
            (65, (64, roots[0].as_str())),
            (130, (64, roots[1].as_str())),
            (133, (2, roots[2].as_str())),
        ];
        assert_eq!(records.collect::<Vec<_>>(), expected);
        assert_eq!(lines.len(), 132 + 3);
        assert_eq!(lines[134]["name"], "after");
        assert!(matches!(told[0], Ok(None)) && matches!(told[131], Ok(None)));
        let roots = VerifiedRoots::default();
        for (token, told) in tokens.into_iter().zip(&told[1..]) {
            let proof = told.as_ref().unwrap().as_ref().unwrap();
            let sealed = token.seal(&keyring, proof).unwrap();
            assert!(token::open(&keyring, &roots, &sealed).is_ok());
        }
    }

    #[tokio::test]
    async fn what_cannot_be_signed_or_written_is_refused() {
        let (shared, good, bad) = (shared(), keyring(), keyring());
        let leaf = |keyring: &Arc<Keyring>| {
            let token = token::unsigned(keyring, &Claims::default(), &[1; 16]).unwrap();
            Some(token.leaf(keyring.clone()))
        };
        let make = || {
            let mut round = Round::default();
            round.wait("a", leaf(&good));
            round.wait("b", leaf(&bad));
            round.wait("c", leaf(&bad));
            round.wait("d", None);
            round.wait("e", leaf(&good));
            round
        };
        let (round, unwritten) = (make(), make());
        // The key is revoked after the calls were decided.
        let id = format!("{:08x}", bad.current().unwrap().id());
        bad.revoke(&BTreeSet::from([id]));
        let (lines, told) = round.sign(&shared, true);
        let names: Vec<_> = lines.iter().map(|l| l["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "d", "e"], "the others have no line");
        let [Ok(Some(_)), Err(b), Err(c), Ok(None), Ok(Some(_))] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(matches!((b, c), (SignError::Key(_), SignError::Key(_))));
        assert_eq!(shared.metrics.token_signatures.get(), 2);
        let (_, told) = unwritten.sign(&shared, false);
        let is_refused = |told: &Outcome| matches!(told, Err(SignError::Audit(AuditError)));
        assert!(told.len() == 5 && told.iter().all(is_refused), "{told:?}");
    }

    #[tokio::test]
    async fn a_call_alone_has_no_further_record() {
        let (shared, keyring) = (shared(), keyring());
        let token = token::unsigned(&keyring, &Claims::default(), &[1; 16]).unwrap();
        let mut round = Round::default();
        round.wait("alone", Some(token.leaf(keyring.clone())));
        let (lines, told) = round.sign(&shared, true);
        assert_eq!(lines.len(), 1);
        assert!(matches!(told[..], [Ok(Some(_))]));
    }
}
