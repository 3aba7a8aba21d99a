//! `aibuyer-server predict`: sends a request from a JSON file and prints the answer as a table.

use std::{fmt::Write as _, fs, io::Read as _, path::Path, time::Duration};

use aibuyer_proto::serving::v1::{self as pb, ctr_service_client::CtrServiceClient};
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

use super::{json_request::JsonRequest, serve::AnyError};

/// Sends the request in `file` (`-` for standard input) to the engine at `address`; the answer as a table.
///
/// # Errors
/// A description of a file that is no request, an engine that cannot be reached, or the engine's status with
/// every field violation.
pub async fn run(address: &str, file: &Path) -> Result<String, AnyError> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        fs::read_to_string(file).map_err(|e| format!("{name}: {e}; examples/requests/upworthy.json is a request"))?
    };
    let request: JsonRequest = serde_json::from_str(&text)
        .map_err(|e| format!("{name} is not a request: {e}; examples/requests/upworthy.json is one"))?;
    let labels: Vec<String> =
        request.candidates.iter().map(|c| serde_json::Value::from(c.clone()).to_string()).collect();
    let request = request.into_proto().map_err(|e| format!("{name}: {e}"))?;
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url)?.connect_timeout(Duration::from_secs(3)).timeout(Duration::from_secs(10));
    let channel = endpoint.connect().await.map_err(|e| {
        format!("cannot reach an engine at {address} ({}); is it running? `make run` starts one", root_cause(&e))
    })?;
    let reply = CtrServiceClient::new(channel).predict_ctr(request).await.map_err(|status| explain(&status))?;
    Ok(table(&labels, &reply.into_inner()))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn explain(status: &tonic::Status) -> String {
    let mut text = format!("{}: {}", crate::status::name_of(status), status.message());
    if let Some(bad) = status.get_details_bad_request()
        && bad.field_violations.len() > 1
    {
        for violation in bad.field_violations {
            let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
        }
    }
    text
}

fn table(labels: &[String], reply: &pb::PredictCtrResponse) -> String {
    let mut text = String::new();
    if let Some(model) = &reply.model {
        let _ = writeln!(text, "model {} version {}", model.name, model.version);
    }
    let interval = match reply.interval_level {
        Some(level) => format!("{:.0} % interval", level * 100.0),
        None => "no interval".to_owned(),
    };
    let _ = writeln!(text, "\n{:>4}  {:>8}  {:^21}  candidate", "#", "CTR", interval);
    for (i, (label, prediction)) in labels.iter().zip(&reply.predictions).enumerate() {
        let percent = |p: Option<f64>| p.map_or("–".to_owned(), |p| format!("{:.3} %", p * 100.0));
        let candidate: String = label.chars().take(80).collect();
        let more = if candidate.len() < label.len() { "…" } else { "" };
        let _ = match &prediction.error {
            Some(error) => writeln!(text, "{i:>4}  {:>8}  {}: {}", "error", error.field, error.reason),
            None => writeln!(
                text,
                "{i:>4}  {:>8}  {:>9} to {:>8}  {candidate}{more}",
                percent(prediction.ctr),
                percent(prediction.ctr_lower),
                percent(prediction.ctr_upper),
            ),
        };
    }
    for features in &reply.features {
        let _ = writeln!(text, "\n{}", stored(features));
    }
    if let Some(t) = &reply.timings {
        let micros = |ns: u64| Duration::from_nanos(ns).as_micros();
        let _ = write!(
            text,
            "\n{} µs on the server: look-up {}, encode {}, queue {}, compute {} ({} rows), reply {}",
            micros(t.total_ns),
            micros(t.features_ns),
            micros(t.encode_ns),
            micros(t.queue_ns),
            micros(t.compute_ns),
            t.batch_rows,
            micros(t.reply_ns),
        );
    }
    text
}

/// Whether stored features were there, candidate by candidate.
fn stored(features: &pb::EntityFeatures) -> String {
    let one = |(status, age): (pb::entity_features::Status, &u32)| {
        let name = status.as_str_name().trim_start_matches("STATUS_");
        if *age == 0 { name.to_owned() } else { format!("{name} ({:.1} s old)", f64::from(*age) / 1000.0) }
    };
    let each: Vec<String> = features.statuses().zip(&features.ages_ms).map(one).collect();
    format!("features of the {} by {}: {}", features.view, features.entity_key, each.join(", "))
}

#[cfg(test)]
mod tests {
    use pb::entity_features::Status;

    use super::*;

    #[test]
    fn what_became_of_stored_features_is_shown() {
        let features = pb::EntityFeatures {
            view: "campaign".to_owned(),
            entity_key: "campaign_id".to_owned(),
            statuses: vec![Status::Stale.into(), Status::Absent.into()],
            ages_ms: vec![5_250, 0],
        };
        let reply = pb::PredictCtrResponse { features: vec![features], ..Default::default() };
        let text = table(&[], &reply);
        assert!(text.contains("features of the campaign by campaign_id: STALE (5.2 s old), ABSENT\n"), "{text}");
    }
}
