//! The status page: what serves, what does not and why, on one screen. Plain HTML, no scripts.

use std::{
    fmt::Write as _,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use aibuyer_domain::model::{Alias, ModelName, Pick, Version};
use aibuyer_loader::{
    Phase, Servable, ServingMap,
    serving_map::{ModelEntry, VersionEntry},
};

use crate::{
    admin::Admin,
    promotions::{Entry, What},
};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:1.5rem 0 0}td.at{white-space:nowrap;width:14rem;opacity:.7}h1 small{font-weight:normal;opacity:.6}\
.chip{display:inline-block;padding:.05rem .6rem;border-radius:1rem;font-size:.85rem;color:#fff;background:#667}\
.ready{background:#187a3c}.failed{background:#b3261e}.loading,.pending,.draining{background:#9a6700}\
table{border-collapse:collapse;width:100%;margin:1rem 0}\
th,td{text-align:left;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8884;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
code{background:#8882;padding:.1rem .3rem;border-radius:.2rem}.why{color:#b3261e;overflow-wrap:anywhere}ul{color:#b3261e}main{overflow-x:auto}";

/// The page.
pub(crate) fn page(admin: &Admin, map: &ServingMap, ready: bool, now: SystemTime) -> String {
    let mut body = String::new();
    let (class, word) = if ready { ("ready", "ready") } else { ("failed", "not ready") };
    let _ = write!(
        body,
        "<h1>aibuyer <small>{}</small> <span class=\"chip {class}\">{word}</span></h1>\
         <p>gRPC on <code>{}</code> · <a href=\"/metrics\">metrics</a> · \
         <a href=\"/healthz/ready\">readiness</a> · <a href=\"/healthz/live\">liveness</a></p><p>Models run on {}</p>",
        env!("CARGO_PKG_VERSION"),
        admin.grpc_address,
        escape(&admin.placement.to_string()),
    );
    if let Some(log) = &admin.log {
        let _ = write!(body, "<p>Prediction log: {}", log.summary());
        if let Some(problem) = log.problem() {
            let _ = write!(body, "<p class=why>ClickHouse takes no rows of it, they are kept: {}", escape(&problem));
        }
    }
    for (line, failure) in admin.views.summary() {
        let _ = write!(body, "<p>Feature view {line}");
        if let Some(failure) = failure {
            let _ = write!(body, "<p class=why>Rows could not be had within the last minute: {}", escape(&failure));
        }
    }
    let problems = admin.problems.list();
    if !problems.is_empty() {
        body.push_str("<p>The registry has problems; what serves keeps serving:<ul>");
        for problem in &problems {
            let _ = write!(body, "<li>{}", escape(problem));
        }
        body.push_str("</ul>");
    }
    if map.models.is_empty() {
        body.push_str("<p>No models. Put one at <code>&lt;registry.path&gt;/&lt;name&gt;/&lt;version&gt;/</code>; it is picked up by itself.</p>");
    } else {
        body.push_str(
            "<table><tr><th>Model<th class=n>Version<th>Answers<th>Phase<th class=n>Rows<th class=n>Rows a batch\
             <th class=n>Waiting<th class=n>Size<th>Loaded",
        );
        for (name, model) in &map.models {
            for (version, entry) in &model.versions {
                row(&mut body, name, model, *version, entry, now);
            }
        }
        body.push_str("</table>");
        for name in map.models.keys() {
            history(&mut body, name, &admin.promotions.recent(name.as_str()));
        }
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta http-equiv=refresh content=5><title>aibuyer</title><style>{STYLE}</style><main>{body}</main></html>"
    )
}

/// The last changes of a model.
fn history(body: &mut String, name: &ModelName, entries: &[Entry]) {
    const SHOWN: usize = 8;
    if entries.is_empty() {
        return;
    }
    let _ = write!(body, "<h2>{}</h2><table>", escape(name.as_str()));
    for entry in entries.iter().take(SHOWN) {
        let class = if matches!(entry.what, What::Refused { .. }) { " class=why" } else { "" };
        let _ = write!(body, "<tr><td class=at>{}<td{class}>{}", escape(&entry.at), escape(&entry.text()));
    }
    body.push_str("</table>");
}

fn row(
    body: &mut String,
    name: &ModelName,
    model: &ModelEntry,
    version: Version,
    entry: &VersionEntry,
    now: SystemTime,
) {
    let aliases = model.routes.aliases.iter().filter(|(_, v)| **v == version);
    let named = |alias: &Alias| match model.lost.contains(alias) {
        true => format!("{alias} (gone from the registry)"),
        false => alias.to_string(),
    };
    let mut answers: Vec<String> = aliases.map(|(alias, _)| named(alias)).collect();
    if model.routes.default == Some(version) {
        answers.insert(0, "default".to_owned());
    }
    if answers.is_empty() && entry.phase == Phase::Ready {
        answers.push("nobody, kept warm".to_owned());
    }
    let phase = entry.phase.name();
    let _ = write!(
        body,
        "<tr><td>{}<td class=n>{version}<td>{}<td><span class=\"chip {phase}\">{phase}</span>",
        escape(name.as_str()),
        escape(&answers.join(", ")),
    );
    match &entry.servable {
        Some(servable) => {
            figures(body, servable, now);
            if !servable.placement.reason.is_empty() {
                let placement = escape(&servable.placement.to_string());
                let _ = write!(body, "<tr><td><td><td colspan=7 class=why>Runs on {placement}");
            }
        }
        None => body.push_str("<td><td><td><td><td>"),
    }
    let failure = match &entry.phase {
        Phase::Failed(failure) => Some(failure),
        _ => entry.refused.as_ref(),
    };
    if let Some(failure) = failure {
        let (check, reason) = (failure.check, escape(&failure.reason));
        let _ = write!(
            body,
            "<tr><td><td><td colspan=7 class=why>{check}: {reason} ({})",
            // A version that is ready and may not take over waits for the registry to move.
            match &entry.phase {
                Phase::Failed(failure) => format!("{} failed in a row; retried by itself", failure.attempts),
                _ => "what serves keeps serving".to_owned(),
            }
        );
    }
}

fn figures(body: &mut String, servable: &Servable, now: SystemTime) {
    match servable.lanes().map(|lanes| &lanes.batcher) {
        Some(batcher) => {
            let counters = batcher.counters();
            let (rows, batches) = (counters.rows.load(Ordering::Relaxed), counters.batches.load(Ordering::Relaxed));
            #[allow(clippy::cast_precision_loss)] // an average for people
            let mean = if batches == 0 { "–".to_owned() } else { format!("{:.1}", rows as f64 / batches as f64) };
            let _ = write!(body, "<td class=n>{rows}<td class=n>{mean}<td class=n>{}", batcher.waiting_rows());
        }
        None => body.push_str("<td class=n>–<td class=n>–<td class=n>–"),
    }
    let age = now.duration_since(servable.loaded_at).unwrap_or_default();
    let _ = write!(
        body,
        "<td class=n>{} kB<td>{} ago",
        servable.bytes / 1000,
        humantime::format_duration(Duration::from_secs(age.as_secs())),
    );
}

/// The models that cannot answer and why, in one line.
pub(crate) fn summary(map: &ServingMap) -> String {
    if map.models.is_empty() {
        return "no models".to_owned();
    }
    let silent = map.models.iter().filter(|(_, model)| !model.ready());
    let lines: Vec<String> = silent.map(|(name, model)| format!("{name}: {}", model.state(&Pick::Default))).collect();
    if lines.is_empty() { "stopping, or still loading".to_owned() } else { lines.join("; ") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_files_cannot_become_markup() {
        assert_eq!(escape("<b a=\"&\">"), "&lt;b a=&quot;&amp;&quot;&gt;");
    }
}
