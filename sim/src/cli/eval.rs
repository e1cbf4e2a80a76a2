//! What `eval` prints.

use einflow_spec::Problems;
use serde_json::{Value, json};

use super::{args::Format, output};
use crate::eval::EvalReport;
use einflow_output::render;

pub(super) fn print_eval(
    cascade: &str,
    report: &EvalReport,
    format: Format,
) -> Result<u8, Problems> {
    let axes = |a: &crate::eval::EvalArray| {
        let parts: Vec<String> = a
            .axes
            .iter()
            .zip(&a.shape)
            .map(|(axis, n)| format!("{axis}={n}"))
            .collect();
        format!("[{}]", parts.join(", "))
    };
    match format {
        Format::Json => {
            let array = |a: &crate::eval::EvalArray| json!({"name": a.name, "axes": a.axes, "shape": a.shape, "element": a.element.name()});
            let outputs: Vec<Value> = report
                .outputs
                .iter()
                .map(|o| {
                    let mut value = array(&o.array);
                    value["empty"] = json!(o.empty);
                    // JSON has no infinity: what is none stands there as null, and is said to be infinite.
                    value["error"] = o.error.map_or(Value::Null, |e| {
                        json!({
                            "absolute": e.absolute,
                            "relative": e.relative,
                            "finite": e.is_finite(),
                        })
                    });
                    value
                })
                .collect();
            output::json(&json!({
                "cascade": cascade,
                "number_format": report.number_format.name(),
                "accumulator": report.accumulator.name(),
                "sizes": report.sizes.0,
                "inputs": report.inputs.iter().map(array).collect::<Vec<_>>(),
                "outputs": outputs,
            }))?;
        }
        Format::Csv => {
            let mut text = String::from("output,absolute_error,relative_error\n");
            for o in &report.outputs {
                let error = o.error.map_or(",".to_string(), |e| {
                    format!("{},{}", e.absolute, e.relative)
                });
                text.push_str(&format!("{},{error}\n", o.array.name));
            }
            output::print(&text)?;
        }
        Format::Table => {
            let mut text = render::wrapped(&format!(
                "{cascade} in {}, reductions accumulated in {} in ascending coordinate order",
                report.number_format.name(),
                report.accumulator.name()
            ));
            for input in &report.inputs {
                text.push_str(&render::wrapped(&format!(
                    "read      {} {} {}",
                    input.name,
                    axes(input),
                    input.element.name()
                )));
            }
            for o in &report.outputs {
                text.push_str(&render::wrapped(&format!(
                    "computed  {} {} {}",
                    o.array.name,
                    axes(&o.array),
                    o.array.element.name()
                )));
                if o.empty > 0 {
                    text.push_str(&format!(
                        "          {} empty points written as 0\n",
                        o.empty
                    ));
                }
                if let Some(e) = o.error {
                    text.push_str(&render::wrapped(&format!(
                        "error     {} against the array of that name: largest absolute {:.3e}, relative to its largest {:.3e}",
                        o.array.name, e.absolute, e.relative
                    )));
                }
            }
            output::print(&text)?;
        }
    }
    Ok(0)
}
