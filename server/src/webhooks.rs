//! `POST /webhooks/mlflow`: MLflow says that something has changed, and the registry is looked at.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use aibuyer_registry::{
    Watcher, Webhook,
    webhook::{Delivery, Event, MAX_BODY, WebhookError},
};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};

#[derive(Clone)]
struct Hook {
    webhook: Arc<Mutex<Webhook>>,
    watcher: Arc<Watcher>,
}

/// The route.
pub(crate) fn router(webhook: Webhook, watcher: Arc<Watcher>) -> Router {
    let hook = Hook { webhook: Arc::new(Mutex::new(webhook)), watcher };
    Router::new().route("/webhooks/mlflow", post(take)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(hook)
}

/// Answers at once; the look comes after. What the delivery says of versions is not believed: the registry is asked.
async fn take(State(hook): State<Hook>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let delivery = Delivery {
        id: header("x-mlflow-delivery-id"),
        timestamp: header("x-mlflow-timestamp"),
        signature: header("x-mlflow-signature"),
        body: &body,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let event = hook.webhook.lock().unwrap_or_else(PoisonError::into_inner).take(delivery, now);
    match event {
        Ok(Event::Model(model)) => {
            tracing::debug!(model, "webhook");
            hook.watcher.look_at(model);
            (StatusCode::ACCEPTED, "the model is looked at\n".to_owned())
        }
        Ok(Event::Other) => (StatusCode::OK, "nothing to do\n".to_owned()),
        Ok(Event::Repeated) => (StatusCode::OK, "seen before\n".to_owned()),
        Err(error) => {
            tracing::warn!(%error, "webhook refused");
            let code = match error {
                WebhookError::Signature => StatusCode::UNAUTHORIZED,
                WebhookError::Timestamp | WebhookError::Body => StatusCode::BAD_REQUEST,
            };
            (code, format!("{error}\n"))
        }
    }
}
