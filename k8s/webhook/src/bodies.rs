//! Bodies of requests: read under a deadline, and within a budget of memory for all of them together.
//!
//! Room is taken for what has come, not for what is announced, so a slow sender holds next to nothing. The first
//! [`START`] bytes of each body come out of another pot than the rest: who leaves large bodies unfinished keeps other
//! large ones out, and not the reviews of ordinary pods.
//!
//! The answer has a pot of its own, by the review's [`weight`] while it is made, and by its length while it is sent. An
//! ordinary one needs no room there: it is made in one go by one of the runtime's few threads, and is shorter than
//! [`START`].

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::weight::weight;

/// The API server takes objects of 3 MiB; what is around one in a review fits into the fourth.
const LIMIT: usize = 4 << 20;
/// The API server waits for 10 s by default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A review of an ordinary pod is smaller; as many as there may be connections fit into [`STARTS`].
pub(crate) const START: usize = 32 << 10;
/// For the first part of each body, and for what goes beyond it. Both together are a quarter of the chart's limit.
const STARTS: usize = 16 << 20;
const RESTS: usize = 16 << 20;
/// For answers to reviews that weigh more than an ordinary one. The largest pods that are in use weigh a few MiB.
const ANSWERS: usize = 24 << 20;
const ORDINARY: usize = 2 << 20;
/// How long a body waits for room: the API server, too, waits for 3 s only by the chart's default.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no body: a status and a line.
pub(crate) type Refusal = (StatusCode, &'static str);

const BUSY: Refusal = (StatusCode::SERVICE_UNAVAILABLE, "there are too many reviews at a time; send it again");

/// The memory for bodies and answers.
#[derive(Debug)]
pub(crate) struct Bodies {
    starts: Semaphore,
    rests: Semaphore,
    answers: Arc<Semaphore>,
}

/// A whole body; its memory counts until this is dropped.
pub(crate) struct Whole<'a> {
    pub bytes: Vec<u8>,
    /// The room for its answer, where it is not an ordinary one.
    pub answer: Option<OwnedSemaphorePermit>,
    _room: [Option<SemaphorePermit<'a>>; 2],
}

impl Default for Bodies {
    fn default() -> Self {
        let [starts, rests, answers] = [STARTS, RESTS, ANSWERS].map(Semaphore::new);
        Bodies { starts, rests, answers: Arc::new(answers) }
    }
}

impl Bodies {
    /// Reads a body to its end.
    pub async fn read(&self, body: Body) -> Result<Whole<'_>, Refusal> {
        let late = (StatusCode::REQUEST_TIMEOUT, "the review did not come in time; send it at once");
        timeout(TIMEOUT, self.collect(body)).await.unwrap_or(Err(late))
    }

    async fn collect(&self, mut body: Body) -> Result<Whole<'_>, Refusal> {
        let (mut bytes, mut start, mut rest) = (Vec::new(), None, None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "the review broke off; send it whole"))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len().saturating_add(data.len());
            if length > LIMIT {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, "the review has more than 4 MiB; send one of a pod"));
            }
            let of_start = length.min(START).saturating_sub(bytes.len());
            take(&self.starts, &mut start, of_start).await?;
            take(&self.rests, &mut rest, data.len().saturating_sub(of_start)).await?;
            bytes.extend_from_slice(&data);
        }
        let answer = match weight(&bytes) {
            ..=ORDINARY => None,
            weight => Some(self.room_for_answer(weight).await?),
        };
        Ok(Whole { bytes, answer, _room: [start, rest] })
    }

    /// Room for an answer that is made, or on its way.
    pub async fn room_for_answer(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        if bytes > ANSWERS {
            return Err((
                StatusCode::PAYLOAD_TOO_LARGE,
                "the review has too many values to be parsed; send one of a pod",
            ));
        }
        let room = Arc::clone(&self.answers).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        timeout(PATIENCE, room).await.map_err(|_| BUSY)?.map_err(|_| BUSY)
    }
}

/// Takes so many bytes more.
async fn take<'a>(pot: &'a Semaphore, held: &mut Option<SemaphorePermit<'a>>, bytes: usize) -> Result<(), Refusal> {
    let more = timeout(PATIENCE, pot.acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX))).await;
    let more = more.map_err(|_| BUSY)?.map_err(|_| BUSY)?;
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    Ok(())
}
