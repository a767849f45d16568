//! A write request at a process of either side: written here, passed on to the owner, or kept until there is one.
//!
//! A client repeats a request without an answer with the same idempotency key, at any side. The key is a column of the
//! part's data, so it moves with the part, and the second execution finds the first one's row.

use crate::record::{Record, Side};

/// A write request that has no answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The side that has the request now.
    pub side: Side,
    /// The epoch of the record by which it was passed on; 0 when it came from a client. A request is passed on again
    /// only by a record with a higher epoch. So it cannot circle between two sides with different records, and a side
    /// that gave up the part while the request was on its way still passes it on.
    pub epoch: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The request has arrived, or the process has read another record while the request was kept.
    Ready,
    /// The transaction has committed, or has found the row of the same idempotency key.
    Written,
    /// The fence has refused the write (SQLSTATE `FL001`); the process has this record.
    Fenced(Record),
    /// The request was kept for the longest time, or too many requests are kept.
    WaitedTooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Execute the request's transaction.
    Write,
    /// Send the request with its idempotency key to the other side.
    Forward,
    /// Keep the request until the process reads another record.
    Wait,
    /// Answer with the result.
    Acknowledge,
    /// Answer 503 with `Retry-After`: the client repeats it.
    AnswerUnavailable,
}

pub fn decide(request: &Request, input: Input) -> (Request, Effect) {
    match input {
        Input::Ready => (*request, Effect::Write),
        Input::Written => (*request, Effect::Acknowledge),
        Input::WaitedTooLong => (*request, Effect::AnswerUnavailable),
        Input::Fenced(record) => {
            let is_owned_elsewhere = record.owner != request.side && !record.stage.is_switching();
            if is_owned_elsewhere && record.epoch > request.epoch {
                (Request { side: record.owner, epoch: record.epoch }, Effect::Forward)
            } else {
                (*request, Effect::Wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Stage;

    #[test]
    fn a_fenced_request_is_passed_on_to_the_owner_and_kept_while_the_owner_changes() {
        let record = Record::initial(Side::Monolith).at(Stage::Following);
        let request = Request { side: Side::Monolith, epoch: 0 };
        assert_eq!(decide(&request, Input::Fenced(record.intent())), (request, Effect::Wait));
        let forwarded = Request { side: Side::Service, epoch: 2 };
        let switched = record.intent().switched(3);
        assert_eq!(decide(&request, Input::Fenced(switched)), (forwarded, Effect::Forward));
        // The service has an old record, in which the monolith is the owner.
        assert_eq!(decide(&forwarded, Input::Fenced(record)), (forwarded, Effect::Wait));
        // The service has given the part back since.
        let back = Request { side: Side::Monolith, epoch: 3 };
        assert_eq!(decide(&forwarded, Input::Fenced(switched.intent().switched(5))), (back, Effect::Forward));
    }
}
