//! What is answered at which path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::OwnedSemaphorePermit;

use crate::bodies::{Bodies, START};
use crate::certificate::{Served, now};
use crate::metrics::Metrics;
use crate::review::answer;
use crate::settings::Current;

/// The path for namespaces that ask for injection. (No query: the API server takes none in a webhook's path.)
const NAMESPACE_ENABLED: &str = "/inject/namespace-enabled";

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub settings: Current,
    pub served: Arc<Served>,
    pub metrics: Arc<Metrics>,
    pub stopping: AtomicBool,
    /// Whether the API server has been told whom to trust, where that is ours to tell.
    pub trusted: AtomicBool,
    bodies: Bodies,
}

impl App {
    pub fn new(served: Arc<Served>, metrics: Arc<Metrics>, trusted: bool) -> Self {
        let (settings, bodies) = (Current::default(), Bodies::default());
        App { settings, served, metrics, stopping: AtomicBool::new(false), trusted: AtomicBool::new(trusted), bodies }
    }
}

/// For the API server.
pub(crate) fn admission(app: Arc<App>) -> Router {
    let route = |enabled| {
        post(move |State(app): State<Arc<App>>, headers: HeaderMap, body: Body| async move {
            inject(&app, enabled, &headers, body).await
        })
    };
    let router = Router::new().route("/inject", route(false)).route(NAMESPACE_ENABLED, route(true));
    router.fallback(not_found).with_state(app)
}

/// For kubelet and Prometheus.
pub(crate) fn health(app: Arc<App>) -> Router {
    let router =
        Router::new().route("/healthz", get("ok\n")).route("/readyz", get(ready)).route("/metrics", get(metrics));
    router.fallback(not_found).with_state(app)
}

async fn inject(app: &App, enabled: bool, headers: &HeaderMap, body: Body) -> Response {
    let refuse = |status: StatusCode, why: &str| {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => app.metrics.busy(),
            _ => app.metrics.malformed(),
        }
        log::warn!("a request is refused: {}", why.escape_debug());
        (status, format!("{why}\n")).into_response()
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type: use application/json");
    }
    let mut body = match app.bodies.read(body).await {
        Ok(body) => body,
        Err((status, why)) => return refuse(status, why),
    };
    let start = Instant::now();
    match answer(&body.bytes, enabled, &app.settings.get()) {
        Ok(answer) => {
            let room = match (answer.body.len(), body.answer.take()) {
                (..=START, _) => None,
                (length, Some(mut room)) => room.split(length),
                (length, None) => match app.bodies.room_for_answer(length).await {
                    Ok(room) => Some(room),
                    Err((status, why)) => return refuse(status, why),
                },
            };
            app.metrics.admitted(answer.verdict, start.elapsed());
            log::info!("{}", answer.text);
            let sent = Bytes::from_owner(Sent { body: answer.body, _room: room });
            ([(header::CONTENT_TYPE, "application/json")], sent).into_response()
        }
        Err(malformed) => refuse(StatusCode::BAD_REQUEST, &malformed.to_string()),
    }
}

/// An answer on its way: whoever reads it slowly has its room.
struct Sent {
    body: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

async fn ready(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "it is shutting down\n");
    }
    match app.served.get() {
        None => (StatusCode::SERVICE_UNAVAILABLE, "there is no certificate yet\n"),
        Some(certificate) if certificate.is_over(now()) => {
            (StatusCode::SERVICE_UNAVAILABLE, "its certificate is over\n")
        }
        Some(_) if !app.trusted.load(Ordering::Relaxed) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the API server does not know yet whom to trust\n")
        }
        Some(_) => (StatusCode::OK, "ok\n"),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.text()).into_response()
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "there is nothing here\n")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    /// The answer to a review of a pod with so many containers, and with so many values that nobody reads.
    async fn send(app: &App, containers: usize, values: usize) -> Response {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let containers: Vec<_> = (0..containers).map(|number| json!({"name": format!("c{number}")})).collect();
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "operation": "CREATE", "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "namespace": "default", "object": {"spec": {"containers": containers, "x": vec![0; values]}},
            },
        });
        inject(app, true, &headers, Body::from(review.to_string())).await
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_keep_only_large_ones_out() {
        let app = App::new(Arc::default(), Arc::default(), true);
        let mut unread = Vec::new();
        loop {
            let answer = send(&app, 128, 0).await;
            if answer.status() != StatusCode::OK {
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                break;
            }
            unread.push(answer);
            assert!(unread.len() < 1000, "all of them are in memory");
        }
        assert!(unread.len() > 10, "{} answers", unread.len());
        assert_eq!(send(&app, 3, 0).await.status(), StatusCode::OK);
        unread.pop();
        assert_eq!(send(&app, 128, 0).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_small_answer_to_a_heavy_review_holds_nothing_once_it_is_made() {
        let app = App::new(Arc::default(), Arc::default(), true);
        let mut unread = Vec::new();
        for containers in [1, 1, 64, 64] {
            unread.push(send(&app, containers, 30_000).await);
            assert_eq!(unread.last().unwrap().status(), StatusCode::OK, "{containers}");
        }
        assert_eq!(send(&app, 1, 60_000).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
