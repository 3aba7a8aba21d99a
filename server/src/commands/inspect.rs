//! `aibuyer-server inspect`: shows what a model directory holds and whether it would be served.

use std::{fmt::Write as _, path::Path};

use aibuyer_domain::{
    ctr::{FieldSpec, Smoothed, Source},
    forecast::window::Missing,
    model::{ServableId, TensorInfo, Version},
};
use aibuyer_loader::{
    LoadError,
    device::Placement,
    session::Runtime,
    stages::{Batching, CtrFiles, Fetched, Forecaster, Kind, Prepared, Warmed, WindowFiles},
};

use super::serve::AnyError;

/// Loads the version in `folder` as the engine would and describes it.
///
/// # Errors
/// The check that fails, as the engine would report it.
pub fn run(folder: &Path, runtime: &dyn Runtime, max_batch_rows: usize) -> Result<String, AnyError> {
    let hint = "name the folder of one version, such as models/ctr-upworthy/1";
    let folder = folder.canonicalize().map_err(|e| format!("{}: {e}; {hint}", folder.display()))?;
    let id = id_of(&folder)?;
    let load = || Fetched::local(id, &folder).verify()?.prepare(runtime, 1, max_batch_rows, &|| true);
    let prepared = load().map_err(|e| match &e {
        LoadError::Read { file, .. } if file == "MLmodel" => format!("{}: {e} Else {hint}", folder.display()),
        e => format!("{}: the {} check failed: {e}", folder.display(), e.check()),
    })?;
    let warmed = match prepared {
        Prepared::Graph(warmed) => *warmed,
        Prepared::Forecast(forecaster) => return Ok(describe_forecaster(&folder, &forecaster)),
    };
    let asked = runtime.placement();
    // A session that runs where sessions do has no reason of its own.
    let placement = if asked.device == warmed.placement.device && warmed.placement.reason.is_empty() {
        Placement { graphs: warmed.placement.graphs, ..asked }
    } else {
        warmed.placement.clone()
    };
    Ok(describe(&folder, &warmed, &placement))
}

fn describe_forecaster(folder: &Path, forecaster: &Forecaster) -> String {
    let Forecaster { id, model, bytes, .. } = forecaster;
    let columns: Vec<&str> = model.needed_columns().collect();
    let last = model.last_date().map_or_else(|| "unknown".to_owned(), |date| date.to_string());
    format!(
        "{} version {} in {}\n  size      {} kB\n  kind      Prophet, {:?} growth; {}\n  history   ends {last}\n  \
         columns   {}\n",
        id.name,
        id.version,
        folder.display(),
        bytes / 1000,
        model.growth(),
        if model.has_exact_law() { "intervals from the exact law" } else { "intervals by simulation" },
        if columns.is_empty() { "none beside the dates".to_owned() } else { columns.join(", ") },
    )
}

/// Name and version from the last two components of the path; version 1 of the last one if it is no number.
fn id_of(folder: &Path) -> Result<ServableId, AnyError> {
    let component = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let last = component(Some(folder));
    Ok(match last.parse::<Version>() {
        Ok(version) => ServableId { name: component(folder.parent()).parse()?, version },
        Err(_) => ServableId { name: last.parse()?, version: Version::new(1).ok_or("version 1")? },
    })
}

fn describe(folder: &Path, warmed: &Warmed, placement: &Placement) -> String {
    let verified = &warmed.verified;
    let mut text = String::new();
    let _ = writeln!(text, "{} version {} in {}", verified.id.name, verified.id.version, folder.display());
    let _ = writeln!(text, "  size      {} kB", verified.bytes / 1000);
    let list = |tensors: &[TensorInfo]| tensors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "  inputs    {}", list(&warmed.signature.inputs));
    let _ = writeln!(text, "  outputs   {}", list(&warmed.signature.outputs));
    let _ = writeln!(text, "  device    {placement}");
    let costs: Vec<String> =
        warmed.cost.measured().map(|(rows, took)| format!("{rows}: {:.1}", took.as_secs_f64() * 1e6)).collect();
    let _ = writeln!(text, "  run time  µs by rows, {}", costs.join(", "));
    match &verified.kind {
        Kind::Ctr(ctr) => describe_ctr(&mut text, ctr),
        Kind::Window(window) => describe_window(&mut text, window),
        Kind::Plain if warmed.batching == Batching::Rows => {
            text.push_str("  kind      plain ONNX; requests share batches\n");
        }
        Kind::Plain => text.push_str(
            "  kind      plain ONNX; each request runs by itself: a dimension other than \
            the first varies, or rows affect each other\n",
        ),
    }
    text
}

fn describe_window(text: &mut String, window: &WindowFiles) {
    let spec = &window.spec;
    let missing = match spec.missing {
        Missing::Reject {} => "none may be missing".to_owned(),
        Missing::Nan { min_values } => format!("{min_values} must be there"),
    };
    let quantiles: Vec<String> = spec.quantiles.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "  kind      forecaster, steps of {}", spec.frequency);
    let _ = writeln!(text, "  context   {} values, of which {missing}", spec.context_length);
    let _ = writeln!(text, "  horizon   {} steps", spec.horizon);
    let _ = writeln!(text, "  quantiles {}", quantiles.join(", "));
    let examples = window.golden_examples();
    let _ = writeln!(text, "  golden    {examples} of {examples} examples reproduced, alone and as one batch");
}

fn describe_ctr(text: &mut String, ctr: &CtrFiles) {
    let spec = &ctr.spec;
    let _ = writeln!(text, "  opset     {}", spec.model.opset);
    let _ = writeln!(text, "  table     {} rows", spec.table_rows);
    let _ = writeln!(text, "  golden    {} of {0} examples reproduced, alone and as one batch", ctr.golden_examples());
    match (&spec.interval, &ctr.calibration) {
        (Some(interval), Some(c)) => {
            let _ = writeln!(
                text,
                "  interval  {:.0} % by default, for a {}",
                interval.default_level * 100.0,
                interval.unit
            );
            let share = |c: Option<f64>| c.map_or("an unknown share".to_owned(), |c| format!("{:.1} %", c * 100.0));
            let (known, cold) = (share(c.coverage_test), share(c.coverage_cold));
            let _ =
                writeln!(text, "            90 % held {known} of known and {cold} of never-seen units when trained");
        }
        _ => text.push_str("  interval  none: the model gives no variance\n"),
    }
    let width = spec.fields.iter().map(|f| f.input().len()).max().unwrap_or(0);
    let _ = writeln!(text, "\nfeatures\n  {:width$}  {:24}  becomes", "input", "takes");
    for field in &spec.fields {
        let _ = writeln!(text, "  {:width$}  {:24}  {}", field.input(), field.accepts(), becomes(field));
    }
}

fn becomes(field: &FieldSpec) -> String {
    let mut text = match field {
        FieldSpec::Categorical { rows, multi, .. } => match multi {
            Some(multi) => format!("up to {} ids out of {rows} rows", multi.max_values),
            None => format!("1 id out of {rows} rows"),
        },
        FieldSpec::Numeric { column: Some(column), default, .. } => match default {
            Some(default) => format!("dense column {column}, {default:.4} when missing"),
            None => format!("dense column {column}, required"),
        },
        FieldSpec::Numeric { rows, .. } => format!("1 id out of {} rows, by size", rows.unwrap_or_default()),
    };
    if let Source::FeatureStore { entity, entity_key, feature, smoothed, .. } = field.source() {
        let what = match (feature, smoothed) {
            (_, Some(Smoothed { successes, trials, a, b })) => format!("({successes} + {a}) / ({trials} + {a} + {b})"),
            (feature, None) => feature.clone().unwrap_or_default(),
        };
        let _ = write!(text, "; {what} of the {entity} {entity_key}, unless the request has it");
    }
    text
}
