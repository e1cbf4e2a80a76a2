//! Chrome's trace format, event by event.

use std::io::{self, BufWriter, Write};

use einflow_serving::offload::timeline::micros;

use super::{Recorder, TraceError, tracks::Slice};

/// The accelerator's process.
const PID: u32 = 1;

/// What a counter counts, and its values by cycle.
type Counter = (String, &'static str, Vec<(u64, f64)>);

/// Text as JSON.
fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

impl Recorder {
    /// Writes the trace as JSON: one object with `traceEvents`, sorted by track, then time. Times are in microseconds, to whole
    /// nanoseconds as viewers have them; each slice has its cycles too.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn write(&self, out: &mut dyn io::Write) -> Result<(), TraceError> {
        let mut out = BufWriter::new(out);
        let tracks = self.tracks();
        write!(out, "{{\"traceEvents\":[")?;
        let process = format!("{}: {}", self.mapped.accelerator.name, self.title);
        write!(
            out,
            "\n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":0,\"name\":\"process_name\",\"args\":{{\"name\":{}}}}}",
            text(&process)
        )?;
        let counters = self.counters();
        let names = tracks.iter().map(|t| &t.name);
        let names = names.chain(counters.iter().map(|(name, _, _)| name));
        for (tid, name) in names.enumerate().map(|(i, name)| (i + 1, name)) {
            write!(
                out,
                ",\n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":{tid},\"name\":\"thread_name\",\"args\":{{\"name\":{}}}}},\
                 \n{{\"ph\":\"M\",\"pid\":{PID},\"tid\":{tid},\"name\":\"thread_sort_index\",\"args\":{{\"sort_index\":{tid}}}}}",
                text(name)
            )?;
        }
        for (i, track) in tracks.iter().enumerate() {
            for slice in &track.slices {
                self.slice(&mut out, i + 1, *slice)?;
            }
        }
        for (i, (name, what, values)) in counters.iter().enumerate() {
            for (cycle, value) in values {
                write!(
                    out,
                    ",\n{{\"ph\":\"C\",\"pid\":{PID},\"tid\":{},\"name\":{},\"ts\":{},\"args\":{{\"{what}\":{value}}}}}",
                    tracks.len() + i + 1,
                    text(name),
                    micros(self.picos(*cycle), self.picos(*cycle))[0],
                )?;
            }
        }
        let last = self
            .total
            .filter(|_| self.complete())
            .or(self.to)
            .map_or("the end".into(), |c| c.to_string());
        let total = self.total.map_or(String::new(), |m| format!(" of {m}"));
        write!(
            out,
            "\n],\n\"displayTimeUnit\":\"ns\",\n\"otherData\":{{\"run\":{},\"mapping\":{},\"accelerator\":{},\"clock_hz\":{},\
             \"window\":{},\"complete\":{}}}}}\n",
            text(&self.title),
            text(&self.mapped.spec.name),
            text(&self.mapped.accelerator.name),
            self.mapped.accelerator.clock.0,
            text(&format!("cycles {} to {last}{total}", self.from)),
            self.complete(),
        )?;
        out.flush()?;
        Ok(())
    }

    fn slice(&self, out: &mut dyn io::Write, tid: usize, slice: Slice) -> io::Result<()> {
        let (start, cycles, name, kind) = match slice {
            Slice::Task(i) => {
                let t = &self.tasks[i];
                (t.start, t.duration, self.task_name(t), "task")
            }
            Slice::Movement(i) => {
                let m = &self.movements[i];
                let name = self.mapped.cascade.tensors[m.tensor].name.clone();
                (m.start, m.duration, name, "movement")
            }
            Slice::Ports(i) => {
                let p = &self.ports[i];
                let cycles = p.ports.last() + 1 - p.ports.start;
                (p.ports.start, cycles, self.port_name(p), "ports")
            }
        };
        let [ts, dur] = micros(self.picos(start), self.picos(start + cycles));
        write!(
            out,
            ",\n{{\"ph\":\"X\",\"pid\":{PID},\"tid\":{tid},\"cat\":\"{kind}\",\"name\":{},\"ts\":{ts},\"dur\":{dur},\
             \"args\":{{\"cycle\":{start},\"cycles\":{cycles}",
            text(&name),
        )?;
        match slice {
            Slice::Task(i) => {
                let task = &self.tasks[i];
                write!(out, ",\"busy\":{},\"tile\":{{", task.busy)?;
                for (n, (l, digit)) in self.iterations(task).iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    write!(out, "{comma}{}:{digit}", text(l))?;
                }
                write!(out, "}}")?;
                self.ranges(out, &task.tile)?;
            }
            Slice::Movement(i) => {
                let moved = &self.movements[i];
                let direction = if moved.inward { "in" } else { "out" };
                write!(
                    out,
                    ",\"bytes\":{},\"direction\":\"{direction}\"",
                    moved.bytes
                )?;
                self.ranges(out, &moved.tile)?;
            }
            Slice::Ports(i) => {
                let p = &self.ports[i].ports;
                let (count, stride, rows) = (p.count, p.stride, p.rows);
                write!(
                    out,
                    ",\"accesses\":{count},\"stride\":{stride},\"ports\":{rows}"
                )?;
            }
        }
        write!(out, "}}}}")
    }

    /// Coordinates as further arguments.
    fn ranges(
        &self,
        out: &mut dyn io::Write,
        tile: &einflow_engine::program::Tile,
    ) -> io::Result<()> {
        for (rank, span) in self.coordinates(tile) {
            write!(out, ",{}:\"{span}\"", text(&rank))?;
        }
        Ok(())
    }

    /// A cycle's start in picoseconds.
    fn picos(&self, cycle: u64) -> u128 {
        (cycle as f64 * 1e12 / self.mapped.accelerator.clock.0).round() as u128
    }

    fn counters(&self) -> Vec<Counter> {
        let mut out = Vec::new();
        for (memory, spec) in self.mapped.accelerator.memories.iter().enumerate() {
            if spec.capacity.is_some() {
                let values = self.occupancy(memory);
                if !values.is_empty() {
                    out.push((format!("{} occupancy", spec.name), "bytes", values));
                }
            }
            let values = self.bandwidth(memory);
            if !values.is_empty() {
                out.push((
                    format!("{} bandwidth", spec.name),
                    "bytes per cycle",
                    values,
                ));
            }
        }
        out
    }

    /// Bytes that a memory keeps, wherever they change; from the window's first cycle on.
    fn occupancy(&self, memory: usize) -> Vec<(u64, f64)> {
        let open = |block: usize| self.stopped && block == self.block;
        let all = self.lives.iter().enumerate();
        let mut changes: Vec<(u64, i128)> =
            all.flat_map(|(b, l)| l.changes(memory, open(b))).collect();
        changes.sort_unstable();
        let mut out: Vec<(u64, f64)> = Vec::new();
        let mut sum = 0i128;
        for (cycle, bytes) in changes {
            if self.to.is_some_and(|to| cycle >= to) {
                break;
            }
            sum += bytes;
            let at = cycle.max(self.from);
            match out.last_mut().filter(|(last, _)| *last == at) {
                Some((_, value)) => *value = sum as f64,
                None => out.push((at, sum as f64)),
            }
        }
        out.dedup_by_key(|(_, value)| *value);
        out
    }

    /// Bytes a cycle of a memory's channel.
    fn bandwidth(&self, memory: usize) -> Vec<(u64, f64)> {
        let own = self
            .movements
            .iter()
            .filter(|m| m.outer == memory && m.duration > 0);
        let own = own.filter(|m| self.shows(m.start, m.start + m.duration));
        let mut moved: Vec<(u64, u64, f64)> = own
            .map(|m| {
                (
                    m.start,
                    m.start + m.duration,
                    m.bytes as f64 / m.duration as f64,
                )
            })
            .collect();
        moved.sort_by_key(|(start, _, _)| *start);
        let mut out = Vec::new();
        for (i, (start, end, rate)) in moved.iter().enumerate() {
            out.push((*start, *rate));
            if moved.get(i + 1).is_none_or(|(next, _, _)| next > end) {
                out.push((*end, 0.0));
            }
        }
        out
    }
}
