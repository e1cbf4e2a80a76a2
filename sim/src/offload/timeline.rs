//! The first tasks of a run as Chrome trace JSON: a track for each device and each direction of a link, and one for the host.

use std::io::{self, BufWriter, Write};

use super::{
    System,
    pipeline::{Kind, Span, Unit},
    serve::Served,
    time::Ps,
};

/// Tasks of a timeline.
pub const MOST_SPANS: usize = 20_000;

/// The system's process.
const PID: u32 = 1;

fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Microseconds, exact to a picosecond.
fn micros(time: Ps) -> String {
    format!("{}.{:06}", time.0 / 1_000_000, time.0 % 1_000_000)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Slice => "model",
        Kind::KeyValue => "keys and values",
        Kind::Query => "queries",
        Kind::Rest => "new keys and values",
        Kind::Attend => "attention",
        Kind::Merge => "merge",
        Kind::Output => "output",
    }
}

/// The tracks that show a unit.
fn tracks(system: &System, unit: Unit) -> Vec<String> {
    let devices = |pool: &super::system::DevicePool, from: u64, count: u64| {
        (from..from + count)
            .map(|at| format!("{}/{at} {}", pool.spec.name, pool.device()))
            .collect()
    };
    let models = &system.models;
    let pools = (&models.spec.name, &system.attends().spec.name);
    match unit {
        Unit::Replica(replica) => devices(models, replica as u64 * models.group, models.group),
        Unit::Attention => devices(system.attends(), 0, system.attends().count()),
        Unit::Out => vec![format!("{} to {}", pools.0, pools.1)],
        Unit::Back => vec![format!("{} to {}", pools.1, pools.0)],
    }
}

/// Writes the timeline.
///
/// # Errors
/// Whatever the writer says.
pub fn write(system: &System, served: &Served, out: &mut dyn io::Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let mut units: Vec<Unit> = (0..system.shape.replicas).map(Unit::Replica).collect();
    if system.attention.is_some() {
        units.extend([Unit::Attention, Unit::Out, Unit::Back]);
    }
    let shown: Vec<(Unit, Vec<String>)> = units
        .into_iter()
        .map(|unit| (unit, tracks(system, unit)))
        .collect();
    let host = shown.iter().map(|(_, names)| names.len()).sum::<usize>() + 1;
    write!(
        out,
        "{{\"traceEvents\":[\n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":0,\"name\":\"process_name\",\"args\":{{\"name\":{}}}}}",
        text(&system.scenario.name)
    )?;
    let names = shown.iter().flat_map(|(_, names)| names.iter().cloned());
    for (at, track) in names.chain(["host".to_string()]).enumerate() {
        let tid = at + 1;
        write!(
            out,
            ",\n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":{tid},\"name\":\"thread_name\",\"args\":{{\"name\":{}}}}},\
             \n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":{tid},\"name\":\"thread_sort_index\",\"args\":{{\"sort_index\":{tid}}}}}",
            text(&track)
        )?;
    }
    let mut tid = 1;
    for (unit, names) in &shown {
        for _ in names {
            let own = served.spans.iter().filter(|s| s.unit == *unit);
            for span in own {
                slice(&mut out, tid, span)?;
            }
            tid += 1;
        }
    }
    for (batch, from, to) in &served.host_spans {
        write!(
            out,
            ",\n{{\"ph\":\"X\",\"pid\":{PID},\"tid\":{host},\"cat\":\"host\",\"name\":\"batch {batch}\",\"ts\":{},\"dur\":{},\"args\":{{\"batch\":{batch}}}}}",
            micros(*from),
            micros(to.since(*from)),
        )?;
    }
    writeln!(
        out,
        "\n],\n\"displayTimeUnit\":\"ms\",\n\"otherData\":{{\"scenario\":{},\"tasks\":{}}}}}",
        text(&system.scenario.name),
        served.spans.len()
    )?;
    out.flush()
}

fn slice(out: &mut impl Write, tid: usize, span: &Span) -> io::Result<()> {
    write!(
        out,
        ",\n{{\"ph\":\"X\",\"pid\":{PID},\"tid\":{tid},\"cat\":\"task\",\"name\":{},\"ts\":{},\"dur\":{},\"args\":{{\"batch\":{},\"layer\":{}}}}}",
        text(&format!("{} {}", name(span.kind), span.batch)),
        micros(span.start),
        micros(span.end.since(span.start)),
        span.batch,
        span.layer,
    )
}
