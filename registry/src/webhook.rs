//! MLflow's webhooks: whether a delivery is MLflow's, and which model it is about.
//!
//! A webhook is a hint. It is never believed about versions; it makes the watcher look sooner.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

/// How far the sender's clock may be from ours, in seconds: MLflow repeats a delivery for some ten seconds.
const WINDOW: u64 = 300;
/// Deliveries remembered, so that none is taken twice.
const REMEMBERED: usize = 1024;
/// Largest body.
pub const MAX_BODY: usize = 64 << 10;

/// A delivery as it came.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// `X-MLflow-Delivery-Id`.
    pub id: &'a str,
    /// `X-MLflow-Timestamp`, seconds since 1970.
    pub timestamp: &'a str,
    /// `X-MLflow-Signature`.
    pub signature: &'a str,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

/// A delivery that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Not signed with the secret.
    #[error("the signature is not that of registry.webhook_secret_file: give the MLflow webhook the same secret")]
    Signature,
    /// Too old or too new.
    #[error("the timestamp is more than {WINDOW} s from this machine's clock")]
    Timestamp,
    /// Not an event.
    #[error("the body is not an MLflow event")]
    Body,
}

/// What a delivery asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something about this model may have changed.
    Model(String),
    /// An event of another kind.
    Other,
    /// Seen before.
    Repeated,
}

/// Checks deliveries.
#[derive(Debug)]
pub struct Webhook {
    secret: Vec<u8>,
    seen: VecDeque<String>,
}

impl Webhook {
    /// Takes deliveries that are signed with `secret`.
    #[must_use]
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self { secret: secret.into(), seen: VecDeque::new() }
    }

    /// Checks a delivery that came `now`, in seconds since 1970.
    ///
    /// # Errors
    /// [`WebhookError`] when it is not MLflow's.
    pub fn take(&mut self, delivery: Delivery, now: u64) -> Result<Event, WebhookError> {
        self.verify(delivery)?;
        let sent: u64 = delivery.timestamp.parse().map_err(|_| WebhookError::Timestamp)?;
        if now.abs_diff(sent) > WINDOW {
            return Err(WebhookError::Timestamp);
        }
        #[derive(Deserialize)]
        struct Body {
            entity: String,
            #[serde(default)]
            data: Data,
        }
        #[derive(Default, Deserialize)]
        struct Data {
            name: Option<String>,
        }
        let body: Body = serde_json::from_slice(delivery.body).map_err(|_| WebhookError::Body)?;
        if self.seen.iter().any(|id| id == delivery.id) {
            return Ok(Event::Repeated);
        }
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(delivery.id.to_owned());
        let about_models = matches!(
            body.entity.as_str(),
            "registered_model" | "model_version" | "model_version_tag" | "model_version_alias"
        );
        Ok(body.data.name.filter(|_| about_models).map_or(Event::Other, Event::Model))
    }

    /// `v1,` and base64 of the HMAC-SHA256 of id, timestamp and body, with dots between. Compared in constant time.
    fn verify(&self, delivery: Delivery) -> Result<(), WebhookError> {
        let sent = delivery.signature.strip_prefix("v1,").ok_or(WebhookError::Signature)?;
        let sent = STANDARD.decode(sent).map_err(|_| WebhookError::Signature)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).map_err(|_| WebhookError::Signature)?;
        for part in [delivery.id.as_bytes(), b".", delivery.timestamp.as_bytes(), b".", delivery.body] {
            mac.update(part);
        }
        mac.verify_slice(&sent).map_err(|_| WebhookError::Signature)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Sent by MLflow 3.18.0 when an alias was set.
    const RECORDED: Delivery = Delivery {
        id: "c0df36df-7c09-45a9-83b8-f3bdec67bd21",
        timestamp: "1795330753",
        signature: "v1,sAse52C4cLrmpb9oRUXeoIlAB9mg9M5rAdKJCMoWOwg=",
        body: br#"{"entity": "model_version_alias", "action": "created", "timestamp": "2026-11-22T06:59:13.425526+00:00", "data": {"name": "wh-demo", "alias": "champion", "version": "1"}}"#,
    };
    const SENT: u64 = 1_795_330_753;

    fn webhook() -> Webhook {
        Webhook::new("s3cret-shared-key")
    }

    #[test]
    fn a_recorded_delivery_is_taken_once() {
        let mut webhook = webhook();
        assert_eq!(webhook.take(RECORDED, SENT), Ok(Event::Model("wh-demo".to_owned())));
        assert_eq!(webhook.take(RECORDED, SENT + 7), Ok(Event::Repeated));
    }

    #[test]
    fn forged_old_and_foreign_deliveries_are_refused() {
        let fails = |delivery: Delivery, now| webhook().take(delivery, now).unwrap_err();
        assert_eq!(Webhook::new("other").take(RECORDED, SENT), Err(WebhookError::Signature));
        let cases = [
            Delivery { body: b"{}", ..RECORDED },
            Delivery { id: "another", ..RECORDED },
            Delivery { timestamp: "1795330754", ..RECORDED },
            Delivery { signature: "", ..RECORDED },
            Delivery { signature: "v1,", ..RECORDED },
            Delivery { signature: "v1,not base64", ..RECORDED },
            Delivery { signature: "v2,sAse52C4cLrmpb9oRUXeoIlAB9mg9M5rAdKJCMoWOwg=", ..RECORDED },
        ];
        for delivery in cases {
            assert_eq!(fails(delivery, SENT), WebhookError::Signature, "{delivery:?}");
        }
        assert_eq!(fails(RECORDED, SENT + WINDOW + 1), WebhookError::Timestamp);
        assert_eq!(fails(RECORDED, SENT - WINDOW - 1), WebhookError::Timestamp);
    }

    #[test]
    fn signed_nonsense_is_not_an_event() {
        let signed = |body: &[u8], entity: &mut Webhook| {
            let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret-shared-key").unwrap();
            mac.update(b"id.1795330753.");
            mac.update(body);
            let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
            entity.take(Delivery { id: "id", timestamp: "1795330753", signature: &signature, body }, SENT)
        };
        assert_eq!(signed(b"hello", &mut webhook()), Err(WebhookError::Body));
        assert_eq!(signed(br#"{"entity":"prompt","data":{"name":"x"}}"#, &mut webhook()), Ok(Event::Other));
        assert_eq!(signed(br#"{"entity":"registered_model"}"#, &mut webhook()), Ok(Event::Other));
    }
}
