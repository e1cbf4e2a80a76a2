//! The words of all tensors: values, who made them, and when.

use std::collections::BTreeMap;

use einflow_mappings::mapped::MappedCascade;
use einflow_spec::NumberFormat;
use einflow_workloads::{
    cascade::{TensorId, TensorKind},
    interpret::Array,
};

use super::{error::ArrayError, place::Layout};

/// The number of the task that made a word: none yet.
pub(super) const NOT_MADE: u32 = 0;
/// There from the start: an input, an initial value, or what a block before has made.
pub(super) const THERE: u32 = u32::MAX;
/// A time that has not come.
pub(super) const NEVER: u64 = u64::MAX;

/// A tensor's words.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub layout: Layout,
    pub values: Vec<f64>,
    pub empty: Vec<bool>,
    /// Whether any word is empty.
    pub masked: bool,
    /// By word: one more than the number of the task that made it last.
    pub task: Vec<u32>,
    /// By word: the end of the step that made it, in the frame of time of its PE.
    pub made: Vec<u64>,
    /// By word: when it is in the outer memory. Empty where no stream brings it there.
    pub outer: Vec<u64>,
}

impl Tensor {
    fn new(layout: Layout) -> Self {
        Self {
            values: Vec::new(),
            empty: Vec::new(),
            masked: false,
            task: Vec::new(),
            made: Vec::new(),
            outer: Vec::new(),
            layout,
        }
    }

    pub fn value(&self, word: usize) -> Option<f64> {
        (!self.masked || !self.empty[word]).then(|| self.values[word])
    }

    pub fn set(&mut self, word: usize, value: Option<f64>) {
        match value {
            Some(value) => {
                self.values[word] = value;
                if self.masked {
                    self.empty[word] = false;
                }
            }
            None => {
                if !self.masked {
                    self.masked = true;
                    self.empty = vec![false; self.values.len()];
                }
                self.values[word] = 0.0;
                self.empty[word] = true;
            }
        }
    }

    /// Room for words that are made.
    pub fn prepare(&mut self, format: NumberFormat, initial: Option<f64>) {
        let words = self.layout.words;
        self.values = vec![0.0; words];
        self.empty.clear();
        self.masked = false;
        self.task = vec![NOT_MADE; words];
        self.made = vec![0; words];
        let Some(at) = self.layout.iterative else {
            return;
        };
        let (stride, length) = (self.layout.strides[at], self.layout.lengths[at] as usize);
        for first in (0..words).step_by(stride * length) {
            for word in first..first + stride {
                self.task[word] = THERE;
                self.set(word, initial.map(|v| format.round(v)));
            }
        }
    }

    /// Of an iterative tensor, the word with this coordinate or the last before it that has been made: steps that are
    /// left out change nothing.
    pub fn latest(&self, word: usize) -> usize {
        let mut at = word;
        while self.task[at] == NOT_MADE {
            match self.layout.before(at) {
                Some(before) => at = before,
                None => return word,
            }
        }
        at
    }
}

/// All tensors, inputs loaded.
pub(super) fn load(
    mapped: &MappedCascade,
    inputs: &BTreeMap<String, Array>,
    format: NumberFormat,
) -> Result<Vec<Tensor>, ArrayError> {
    let cascade = &mapped.cascade;
    let mut out = Vec::new();
    for (t, tensor) in cascade.tensors.iter().enumerate() {
        let mut state = Tensor::new(Layout::new(mapped, TensorId(t)));
        if tensor.kind == TensorKind::Input {
            let array = inputs.get(&tensor.name).ok_or_else(|| {
                ArrayError::Inputs(format!("the input `{}` is missing", tensor.name))
            })?;
            fill(
                &mut state,
                &tensor.name,
                tensor.ranks.len(),
                array,
                format,
                tensor.coordinates_of.is_some(),
            )?;
        }
        out.push(state);
    }
    Ok(out)
}

/// Takes over an input's elements: those of batch ranks that it does not carry are the same for all.
fn fill(
    state: &mut Tensor,
    name: &str,
    ranks: usize,
    array: &Array,
    format: NumberFormat,
    coordinates: bool,
) -> Result<(), ArrayError> {
    let wrong = || {
        ArrayError::Inputs(format!(
            "the input `{name}` has shape {:?}, expected {:?}",
            array.shape, state.layout.lengths
        ))
    };
    let layout = &state.layout;
    let carried = array.shape.len();
    if carried < ranks || carried > layout.lengths.len() {
        return Err(wrong());
    }
    let own = &layout.lengths[layout.lengths.len() - carried..];
    let elements: usize = array.shape.iter().product();
    if own.iter().zip(&array.shape).any(|(a, b)| *a != *b as u64)
        || array.data.len() != elements
        || array.empty.as_ref().is_some_and(|e| e.len() != elements)
    {
        return Err(wrong());
    }
    if array.data.iter().any(|x| x.is_nan()) {
        return Err(ArrayError::Inputs(format!("the input `{name}` holds NaN")));
    }
    let words = state.layout.words;
    state.values = (0..words)
        .map(|w| {
            let value = array.data[w % elements];
            if coordinates {
                value
            } else {
                format.round(value)
            }
        })
        .collect();
    state.task = vec![THERE; words];
    state.made = vec![0; words];
    if let Some(empty) = &array.empty {
        state.masked = true;
        state.empty = (0..words).map(|w| empty[w % elements]).collect();
    }
    Ok(())
}
