//! The first tasks of a run as Chrome trace JSON: a track for each device and each direction of a link, and one for the host.

use std::io::{self, BufWriter, Write};

use super::{
    System,
    pipeline::{Kind, Span, Unit},
    pool::DevicePool,
    serve::{OtherSpan, Served},
};

/// Tasks of a timeline.
pub const MOST_SPANS: usize = 20_000;

/// The system's process.
const PID: u32 = 1;

fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// A slice's start and duration in microseconds, of picoseconds. Viewers (Perfetto) round both to whole nanoseconds, each on its own,
/// and drop a slice that then overlaps its neighbour: here ends are rounded, so that slices that meet still do.
pub fn micros(start: u128, end: u128) -> [String; 2] {
    let nanos = |picos: u128| (picos + 500) / 1000;
    [nanos(start), nanos(end) - nanos(start)].map(|ns| format!("{}.{:03}", ns / 1000, ns % 1000))
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

/// The tracks of some devices of a pool.
fn devices(pool: &DevicePool, from: u64, count: u64) -> Vec<String> {
    (from..from + count)
        .map(|at| format!("{}/{at} {}", pool.spec.name, pool.device()))
        .collect()
}

/// The tracks that show a unit.
fn tracks(system: &System, unit: Unit) -> Vec<String> {
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
    let mut units: Vec<Unit> = (0..system.shape.replicas * system.shape.stages)
        .map(Unit::Replica)
        .collect();
    if system.attention.is_some() {
        units.extend([Unit::Attention, Unit::Out, Unit::Back]);
    }
    let mut shown: Vec<(Vec<String>, Vec<Slice<'_>>)> = units
        .into_iter()
        .map(|unit| {
            let own = served.spans.iter().filter(|s| s.unit == unit);
            (tracks(system, unit), own.map(Slice::Task).collect())
        })
        .collect();
    if let Some(pool) = &system.prefill {
        for group in 0..pool.replicas {
            let names = devices(pool, group * pool.group, pool.group);
            let own = served.prompt_spans.iter();
            let own = own.filter(|s| s.of as u64 == group);
            shown.push((names, own.map(|s| Slice::Other("prompt", s)).collect()));
        }
        let keeps = &system.attends().spec.name;
        let name = format!("{} to {keeps}", pool.spec.name);
        shown.extend(others(
            &name,
            "cache",
            &served.cache_spans,
            system.cache_channels(),
        ));
    }
    shown.extend(others("host", "batch", &served.host_spans, system.hosts()));
    write!(
        out,
        "{{\"traceEvents\":[\n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":0,\"name\":\"process_name\",\"args\":{{\"name\":{}}}}}",
        text(&system.scenario.name)
    )?;
    let names = shown.iter().flat_map(|(names, _)| names);
    for (at, track) in names.enumerate() {
        let tid = at + 1;
        write!(
            out,
            ",\n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":{tid},\"name\":\"thread_name\",\"args\":{{\"name\":{}}}}},\
             \n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":{tid},\"name\":\"thread_sort_index\",\"args\":{{\"sort_index\":{tid}}}}}",
            text(track)
        )?;
    }
    let mut tid = 1;
    for (names, slices) in &shown {
        for _ in names {
            for one in slices {
                slice(&mut out, tid, one)?;
            }
            tid += 1;
        }
    }
    writeln!(
        out,
        "\n],\n\"displayTimeUnit\":\"ms\",\n\"otherData\":{{\"scenario\":{},\"tasks\":{}}}}}",
        text(&system.scenario.name),
        served.spans.len()
    )?;
    out.flush()
}

/// What a track shows.
enum Slice<'s> {
    Task(&'s Span),
    Other(&'static str, &'s OtherSpan),
}

/// A track for each host or link, numbered where there are several.
fn others<'s>(
    name: &str,
    what: &'static str,
    spans: &'s [OtherSpan],
    count: u64,
) -> Vec<(Vec<String>, Vec<Slice<'s>>)> {
    let track = |at: u64| {
        let own = spans.iter().filter(|s| s.of as u64 == at);
        let name = match count {
            1 => name.to_string(),
            _ => format!("{name} {at}"),
        };
        (vec![name], own.map(|s| Slice::Other(what, s)).collect())
    };
    (0..count).map(track).collect()
}

fn slice(out: &mut impl Write, tid: usize, slice: &Slice<'_>) -> io::Result<()> {
    let (name, start, end, more) = match slice {
        Slice::Task(span) => (
            format!("{} {}", name(span.kind), span.batch),
            span.start,
            span.end,
            format!("\"batch\":{},\"layer\":{}", span.batch, span.layer),
        ),
        Slice::Other(what, span) => (
            format!("{what} {}", span.request),
            span.start,
            span.end,
            format!("\"{what}\":{}", span.request),
        ),
    };
    let [start, duration] = micros(start.0.into(), end.0.into());
    write!(
        out,
        ",\n{{\"ph\":\"X\",\"pid\":{PID},\"tid\":{tid},\"cat\":\"task\",\"name\":{},\"ts\":{start},\"dur\":{duration},\"args\":{{{more}}}}}",
        text(&name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Perfetto reads them: start and duration in whole nanoseconds, each rounded on its own.
    #[test]
    fn slices_that_meet_do_not_overlap() {
        let read = |text: &str| (text.parse::<f64>().unwrap_or(f64::NAN) * 1000.0).round() as u64;
        for width in [1, 333, 500, 1064, 1500, 76_596] {
            let mut free = 0;
            for i in 0..2000 {
                let [start, duration] = micros(i * width, (i + 1) * width).map(|t| read(&t));
                assert_eq!(free, start, "{i} of {width}");
                free = start + duration;
            }
        }
    }
}
