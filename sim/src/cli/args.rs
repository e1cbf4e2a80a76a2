use std::{ffi::OsStr, path::PathBuf};

use clap::{
    Arg, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser},
};
use einflow_engine::Engine;
use einflow_serving::offload::serve::trace::Skip;
use einflow_spec::NumberFormat;

/// Simulates attention, written as cascades of Einsums, on spatial-array accelerators.
#[derive(Parser, Debug)]
#[command(name = "einflow", version, about, max_term_width = 80)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Compare mappings side by side
    ///
    /// With nothing named: the five published attention configurations on BERT, 1K to 64K tokens, every action charged.
    #[command(
        after_help = "Examples:\n  einflow compare\n  einflow compare all --format csv\n  einflow compare --accounting published --plot plots\n  einflow compare mine.ron"
    )]
    Compare {
        /// A file or name of a comparison; `all`: all models and lengths
        run: Option<String>,
        /// Whose accounting the energies follow
        #[arg(long, value_enum, default_value_t)]
        accounting: Accounting,
        /// What computes the result; what the file says where none is given, else analytic
        #[arg(long, value_parser = OneOf(engines))]
        engine: Option<String>,
        /// Do not check in miniature that the mapped dataflows compute what they should
        #[arg(long)]
        no_check: bool,
        /// A folder for plots, each as SVG and PNG; it is made if needed
        #[arg(long, value_name = "DIR")]
        plot: Option<PathBuf>,
        /// How to print it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Run one cascade on one accelerator
    #[command(
        after_help = "Examples:\n  einflow run --model bert --length 1K --accelerator fusemax --mapping fusemax-binding\n  einflow run --model xlm --length 64K --mapping flat --end-to-end --format json\n  einflow run mine.ron"
    )]
    Run(RunArguments),
    /// Compute a cascade's outputs from your own tensors
    #[command(
        after_help = "Examples:\n  einflow eval attention/one-pass --input in.npz --output out.npz \\\n      --number-format bf16 --size M0=16"
    )]
    Eval {
        /// The cascade: a name or a file
        cascade: String,
        /// An .npz file: arrays named after the cascade's inputs, axes in declared order, batch ranks in front
        #[arg(long)]
        input: PathBuf,
        /// Where to write the outputs, as .npz
        #[arg(long)]
        output: Option<PathBuf>,
        /// Inputs and intermediates are rounded to it
        #[arg(long, default_value = "f64", value_parser = OneOf(formats))]
        number_format: String,
        /// The format in which reductions accumulate; f64 for f64, else f32
        #[arg(long, value_parser = OneOf(formats))]
        accumulator: Option<String>,
        /// A size that no shape fixes, such as M0=16
        #[arg(long, value_name = "NAME=SIZE")]
        size: Vec<String>,
        /// Accept NaN in the input
        #[arg(long)]
        allow_nan: bool,
        /// The format of raw elements of one or two bytes, as ml_dtypes calls it (float8_e4m3fn, float8_e5m2, ...): of all arrays, or NAME=FORMAT of one; two bytes are bfloat16 otherwise
        #[arg(long, value_name = "FORMAT")]
        stored_as: Vec<String>,
        /// How to print the report
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Count the passes that a cascade makes over each rank, and say why
    #[command(after_help = "Example:\n  einflow passes attention/three-pass")]
    Passes {
        /// The cascade: a name or a file
        cascade: String,
        /// How to print it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Describe a cascade, an accelerator, a mapping or a model
    #[command(
        after_help = "Examples:\n  einflow describe attention/one-pass --model bert --length 4K\n  einflow describe attention/one-pass --format dot | dot -Tsvg\n  einflow describe fusemax\n  einflow describe deepseek-v3 --length 32K --devices 8"
    )]
    Describe {
        /// The name or file
        name: String,
        /// The model that gives a cascade its sizes
        #[arg(long, default_value = "bert")]
        model: String,
        /// The sequence length
        #[arg(long, default_value = "1K", allow_hyphen_values = true)]
        length: String,
        /// A size of a cascade besides the model's, such as K=1024
        #[arg(long, value_name = "NAME=SIZE")]
        size: Vec<String>,
        /// Devices that share each layer of a model: what one of them has
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        devices: Option<u64>,
        /// How to print it
        #[arg(long, value_enum, default_value_t)]
        format: DescribeFormat,
    },
    /// Explain a mapping in words: what stays where, what moves when, who waits for whom, what bounds it
    #[command(
        after_help = "Examples:\n  einflow explain fusemax-binding\n  einflow explain flat --model xlm --length 64K\n  einflow explain unfused --size B=1\n  einflow explain mine.ron --accelerator fusemax"
    )]
    Explain {
        /// A mapping or a run file with one run: a name or a file; a mapping where both have the name
        name: String,
        /// The model that gives the sizes; bert where none is given
        #[arg(long)]
        model: Option<String>,
        /// The sequence length; 1K where none is given
        #[arg(long, allow_hyphen_values = true)]
        length: Option<String>,
        /// A size besides the model's, such as B=1
        #[arg(long, value_name = "NAME=SIZE")]
        size: Vec<String>,
        /// The accelerator; the mapping's where none is given
        #[arg(long)]
        accelerator: Option<String>,
        /// What counts cycles and traffic; what the file says where none is given, else analytic
        #[arg(long, value_parser = OneOf(engines))]
        engine: Option<String>,
    },
    /// Check results against published and measured ones
    #[command(
        after_help = "Examples:\n  einflow validate\n  einflow validate attn-binding --format json\n  einflow validate --all"
    )]
    Validate {
        /// Experiments: names or files; the fast set where none is given
        experiments: Vec<String>,
        /// Every experiment, the slow ones too
        #[arg(long)]
        all: bool,
        /// A folder for plots of predicted against measured times, each as SVG and PNG; it is made if needed
        #[arg(long, value_name = "DIR")]
        plot: Option<PathBuf>,
        /// How to print it; json gives every row
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Predict a table's measured times on a device
    ///
    /// The header tells what a table measures (validation/data has one of each kind); each row is echoed with the predicted
    /// time and the error, and each group of rows gets its mean and worst error.
    #[command(
        after_help = "Examples:\n  einflow predict --device h200 --table data/h200/gemm-bf16.csv\n  einflow predict --device h100 --table mine.csv --format csv > predicted.csv\n  einflow predict --device h200-profiled --table mine.csv --extrapolate"
    )]
    Predict(PredictArguments),
    /// Fit a device to measured times, and print its file
    #[command(
        after_help = "Examples:\n  einflow fit --table gemm.csv --table attention.csv --name mine --out mine.ron\n  einflow fit --device h200 --table data/h200/gemm-bf16.csv"
    )]
    Fit(FitArguments),
    /// Serve a trace of requests on a device, step by step
    ///
    /// A server as vLLM schedules it: prompts in chunks, mixed with decodes, first come first served; the newest request is preempted where the
    /// KV cache is full.
    #[command(
        after_help = "Example:\n  einflow replay requests.csv --device rtx4090 --model llama3-8b --kv-blocks 2588"
    )]
    Replay(ReplayArguments),
    /// Decode on pools of devices, with attention offloaded or not
    ///
    /// A scenario says which devices, links, batches in flight and requests; the report says how fast, what every device and link does, and
    /// what a token costs.
    #[command(
        after_help = "Examples:\n  einflow offload lamina-70b\n  einflow offload --compare lamina-70b vllm-70b\n  einflow offload mine.ron --format json --plot plots --trace trace.json"
    )]
    Offload(OffloadArguments),
    /// Run over a grid of values
    ///
    /// Points are written as they are computed: points.csv and points.jsonl hold every row, front.csv those that no other
    /// of the same work beats.
    #[command(
        after_help = "Examples:\n  einflow sweep figure12\n  einflow sweep lengths --format csv\n  einflow sweep mine.ron --out results"
    )]
    Sweep {
        /// A sweep file or its name
        sweep: String,
        /// A folder for the rows; it is made if needed
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// A folder for plots, each as SVG and PNG; it is made if needed
        #[arg(long, value_name = "DIR")]
        plot: Option<PathBuf>,
        /// How to print the result: the front as a table, or every row as CSV or JSON lines
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List what there is by name
    #[command(after_help = "Examples:\n  einflow list\n  einflow list mappings")]
    List {
        /// Of which kind; all kinds where none is given
        #[arg(value_enum)]
        what: Option<Listing>,
    },
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  einflow completions bash > einflow.bash\n  einflow completions fish | source"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write one for each command
    #[command(
        after_help = "Examples:\n  einflow man | man -l -\n  einflow man --out share/man/man1"
    )]
    Man {
        /// A folder for einflow.1, einflow-run.1 and so on
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Arguments of `predict`.
#[derive(Args, Debug)]
pub struct PredictArguments {
    /// The device: a name or a file
    #[arg(long)]
    pub device: String,
    /// A table of measurements: a file, or one of validation/data by its path there
    #[arg(long, value_name = "FILE")]
    pub table: PathBuf,
    /// How the kernels were launched; graph where the file's name says so, else eager
    #[arg(long, value_enum)]
    pub launch: Option<LaunchMode>,
    /// Add what each row costs at the device's price
    #[arg(long)]
    pub cost: bool,
    /// Go on beyond what a profiled device has measured, with a flag
    #[arg(long)]
    pub extrapolate: bool,
    /// A folder for a plot of predicted against measured, as SVG and PNG; it is made if needed
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// How to print it; with csv the groups go to standard error
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArguments {
    /// The requests: a CSV file with arrival_s, prompt_tokens, generated_tokens, or a trace as Azure, BurstGPT, Vidur (CSV),
    /// Mooncake or Qwen (JSON lines) publish it
    pub requests: PathBuf,
    /// The device: a name or a file
    #[arg(long)]
    pub device: String,
    /// The model: a name or a file
    #[arg(long)]
    pub model: String,
    /// Blocks of the KV cache; what fits beside the weights where none is given
    #[arg(long, value_name = "N")]
    pub kv_blocks: Option<u64>,
    /// Tokens of a block
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub block_size: u64,
    /// Tokens of a step
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub step_tokens: u64,
    /// Requests that run at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub sequences: u64,
    /// Whether blocks that were given back are found again while nobody has taken them: by a preempted request its own, by
    /// others those that begin with the same tokens, where the file says so (hash_ids, or input_tok_ids)
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub prefix_caching: bool,
    /// Whether a request is admitted only where its whole prompt has room, as by vLLM since 0.19; else where its first chunk has
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub reserve_prompts: bool,
    /// Whether a step is planned while the one before it runs, as by vLLM since 0.14
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub async_scheduling: bool,
    /// Whether one block of the KV cache holds nothing, as in vLLM's version 1
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub null_block: bool,
    /// Devices that share each layer (tensor parallelism)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 14))]
    pub devices: u64,
    /// The link between them: a name or a file
    #[arg(long)]
    pub link: Option<String>,
    /// What the host adds to each step, in microseconds; while the one before it runs, where it is planned then
    #[arg(long, value_name = "US", default_value_t = 0.0)]
    pub host_overhead: f64,
    /// Columns of the requests' file where it has others: arrival=NAME (seconds, or dates) or arrival_ms=NAME, prompt=NAME,
    /// generated=NAME; and which prompts begin alike: hash_ids=NAME, or prompt_ids=NAME with generated_ids=NAME
    #[arg(long, value_name = "OF=NAME", value_delimiter = ',', value_parser = column)]
    pub columns: Vec<(String, String)>,
    /// Requests to leave out and count: without tokens, out of order, larger than the cache
    #[arg(long, value_name = "WHICH", value_delimiter = ',', value_parser = skips())]
    pub skip: Vec<Skip>,
    /// How many times as fast as the file says requests come
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = above_zero)]
    pub speed_up: f64,
    /// Tokens that each of the file's block hashes stands for; 512 or 16 where none is given, whichever fits all rows
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub hash_block: Option<u64>,
    /// The share of each prompt with which all prompts begin, in place of what the file says
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub shared_prefix: Option<f64>,
    /// A request is good where its first token comes within so many seconds (TTFT)
    #[arg(long, value_name = "S", value_parser = above_zero)]
    pub ttft: Option<f64>,
    /// A request is good where it takes at most so many milliseconds a token after the first (TPOT)
    #[arg(long, value_name = "MS", value_parser = above_zero)]
    pub tpot: Option<f64>,
    /// Search how fast requests may come for this share of them to be good: above 0, at most 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub find_load: Option<f64>,
    /// A file for the scenario that this is, to vary and run with `offload`
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `offload`.
#[derive(Args, Debug)]
pub struct OffloadArguments {
    /// The scenario: a name or a file
    #[arg(required_unless_present = "compare", conflicts_with = "compare")]
    pub scenario: Option<String>,
    /// Two scenarios, side by side
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub compare: Vec<String>,
    /// Compute one layer's attention on real numbers, divided as the scenario says, and hold it against the undivided
    #[arg(long, conflicts_with = "compare")]
    pub check: bool,
    /// A folder for plots, each as SVG and PNG; it is made if needed
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// A file for a timeline of the first tasks, to open in Perfetto
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    pub trace: Option<PathBuf>,
    /// A file for a row of each request: its first token, the time between tokens, its end
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    pub requests: Option<PathBuf>,
    /// Simulate every layer, also those that repeat: the same result, later
    #[arg(long)]
    pub every_layer: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `fit`.
#[derive(Args, Debug)]
pub struct FitArguments {
    /// A table of measurements; several are fitted together
    #[arg(long, value_name = "FILE", required = true)]
    pub table: Vec<PathBuf>,
    /// A device whose chip it is, and whose laws the fit starts from
    #[arg(long)]
    pub device: Option<String>,
    /// The name of the new device
    #[arg(long)]
    pub name: Option<String>,
    /// How the kernels were launched; graph where the file's name says so, else eager
    #[arg(long, value_enum)]
    pub launch: Option<LaunchMode>,
    /// Where to write the file; standard output where none is given
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// How kernels are launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LaunchMode {
    /// One by one, by the host
    Eager,
    /// As a captured graph
    Graph,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// A file that says what to run, in place of the options
    pub run: Option<String>,
    /// The model that gives the sizes: bert, trxl, t5, xlm, or a file
    #[arg(long)]
    pub model: Option<String>,
    /// The sequence length: 1K (1024) to 16M, or any whole number up to 2^24
    #[arg(long, allow_hyphen_values = true)]
    pub length: Option<String>,
    /// The accelerator; the mapping's where none is given
    #[arg(long)]
    pub accelerator: Option<String>,
    /// The mapping
    #[arg(long)]
    pub mapping: Option<String>,
    /// The cascade; the mapping's where none is given
    #[arg(long)]
    pub workload: Option<String>,
    /// A size besides the model's, such as B=1
    #[arg(long, value_name = "NAME=SIZE")]
    pub size: Vec<String>,
    /// What computes the result; what the file says where none is given, else analytic
    #[arg(long, value_parser = OneOf(engines))]
    pub engine: Option<String>,
    /// Check the values: the mapped dataflow in miniature, and one query at the real length in the accelerator's formats
    #[arg(long)]
    pub check: bool,
    /// A file for a trace of the cycle engine, to open in Perfetto
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// The cycles that the trace shows; from the start as many as make 100000 slices where it is left out
    #[arg(long, value_name = "FROM..TO", requires = "trace")]
    pub trace_window: Option<String>,
    /// Whose accounting the energies follow, where no accelerator is named
    #[arg(long, value_enum, default_value_t)]
    pub accounting: Accounting,
    /// Add the linear layers around attention
    #[arg(long)]
    pub end_to_end: bool,
    /// A folder for plots, each as SVG and PNG; it is made if needed
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables that fit 80 columns
    #[default]
    Table,
    /// JSON
    Json,
    /// CSV
    Csv,
}

/// How a description is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DescribeFormat {
    /// Text
    #[default]
    Table,
    /// JSON
    Json,
    /// Graphviz, of a cascade
    Dot,
}

/// Whose accounting the energies follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Accounting {
    /// Every action charged
    #[default]
    Correct,
    /// As the published tables have it
    Published,
}

/// What `list` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Listing {
    Workloads,
    Models,
    Accelerators,
    Mappings,
    Runs,
    Sweeps,
    Experiments,
    Devices,
    Links,
    Scenarios,
}

/// A name that completion and help offer, and that is read where all other mistakes are found, to be reported with them.
#[derive(Clone)]
struct OneOf(fn() -> Vec<PossibleValue>);

impl TypedValueParser for OneOf {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.0)().into_iter()))
    }
}

/// A column of a trace: which, and its name in the file.
fn column(text: &str) -> Result<(String, String), String> {
    const KNOWN: [&str; 7] = [
        "arrival",
        "arrival_ms",
        "prompt",
        "generated",
        "hash_ids",
        "prompt_ids",
        "generated_ids",
    ];
    match text.split_once('=') {
        Some((of, name)) if KNOWN.contains(&of) && !name.is_empty() => Ok((of.into(), name.into())),
        _ => Err(format!("{}=NAME is wanted", KNOWN.join("=NAME, "))),
    }
}

/// Which requests may be left out.
fn skips() -> impl TypedValueParser<Value = Skip> {
    let names = Skip::ALL.iter().map(|skip| skip.name());
    PossibleValuesParser::new(names).try_map(|name| Skip::named(&name).ok_or("no such kind"))
}

/// A number above 0, at most 1.
fn share(text: &str) -> Result<f64, String> {
    let number = above_zero(text).ok().filter(|share| *share <= 1.0);
    number.ok_or("a number above 0, at most 1, is wanted".into())
}

/// A number above 0.
fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0 is wanted".into()),
    }
}

/// The engines that a run may name.
fn engines() -> Vec<PossibleValue> {
    Engine::all()
        .filter(|engine| engine.any_size())
        .map(|engine| PossibleValue::new(engine.name()).help(engine.gives()))
        .collect()
}

/// The number formats in which values are computed.
fn formats() -> Vec<PossibleValue> {
    let names = NumberFormat::ALL.iter().map(|format| format.name());
    names.map(PossibleValue::new).collect()
}
