//! Layers whose attention is on a second device: batches in flight between the two.

use einflow_spec::{Problem, quantity::Seconds};

use super::{Answer, Answerer, Step, Task};
use crate::offload::{
    pipeline::{Iteration, Layers, Message, Pipeline, Shape},
    time::Ps,
};

/// What one model device and one attention device do for `batches` batches, each through all `layers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Apart {
    /// Layers.
    pub layers: u64,
    /// Batches in flight.
    pub batches: usize,
    /// On the model device before the first attention.
    pub first: Vec<Step>,
    /// Between two attentions.
    pub slice: Vec<Step>,
    /// After the last.
    pub last: Vec<Step>,
    /// On the attention device.
    pub attend: Vec<Step>,
    /// The message there.
    pub query: Step,
    /// The message back.
    pub output: Step,
}

impl Answerer {
    /// From the start of the first batch to the end of the last.
    ///
    /// The attention device takes a message only while it attends to nothing. The model device posts the receive of an output as soon as
    /// its queries are ready; until the output is there that kernel holds units beside the other batch's work.
    pub(super) fn apart(&self, apart: &Apart, task: &Task) -> Result<Answer, Problem> {
        let mut flags = Vec::new();
        let mut time = |steps: &[Step], held: u64| {
            let answer = self.all(steps, task, held)?;
            super::answer::join(&mut flags, answer.flags);
            Ok::<_, Problem>(answer.time)
        };
        let held = self.graph()?.transfer_units;
        let slice = time(&apart.slice, 0)?;
        let slowed = time(&apart.slice, held)?;
        let message = |time| {
            Ok::<_, Problem>(Message {
                stream: ps(time)?,
                latency: Ps::ZERO,
            })
        };
        let layers = Layers {
            count: u32::try_from(apart.layers).map_err(|_| too_long())?,
            first: ps(time(&apart.first, 0)?)?,
            slice: ps(slice)?,
            last: ps(time(&apart.last, 0)?)?,
            attend: ps(time(&apart.attend, 0)?)?,
            query: message(time(std::slice::from_ref(&apart.query), 0)?)?,
            output: message(time(std::slice::from_ref(&apart.output), 0)?)?,
            waiting: ((slowed.0 / slice.0 - 1.0).max(0.0) * 1000.0).round() as u32,
            ..Layers::default()
        };
        let mut pipeline = Pipeline::new(Shape {
            batches: apart.batches,
            replicas: 1,
            rotate: true,
            stages: 1,
            receive_idle: true,
        });
        for batch in 0..apart.batches {
            pipeline.start(batch, Iteration::Layers(layers), Ps::ZERO);
        }
        let (mut end, mut ends) = (Ps::ZERO, 0);
        while let Some(ended) = pipeline.advance(Ps::NEVER) {
            (end, ends) = (ended.at, ends + 1);
        }
        if ends < apart.batches {
            return Err(too_long());
        }
        Ok(Answer {
            time: end.seconds(),
            flags,
        })
    }
}

fn ps(time: Seconds) -> Result<Ps, Problem> {
    Ps::of(time).ok_or_else(too_long)
}

fn too_long() -> Problem {
    Problem::nowhere("a step longer than a simulation lasts, 213 days")
}
