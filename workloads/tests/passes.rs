//! Passes of every cascade of the library, and of small ones that show one rule each. Every expectation is
//! derived by hand; the reason stands beside it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use einflow_spec::Source;
use einflow_workloads::analysis::{PassReport, passes};
use einflow_workloads::cascade::Cascade;
use einflow_workloads::cascades;

fn parse(text: &str) -> Cascade {
    Cascade::parse(&Source::new("test.ron", text)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// `E 1, M 3; M holds QK, SN`: passes by rank, and what is held across barriers over unsplit ranks. A summary stands with
/// the ranks that it has: `LM by M1`.
fn summary(report: &PassReport) -> String {
    let counts: Vec<String> = report
        .passes
        .iter()
        .map(|(rank, passes)| format!("{rank} {}", passes.count))
        .collect();
    let mut parts = vec![counts.join(", ")];
    for rank in report.passes.keys() {
        let held = report
            .live
            .iter()
            .filter(|live| live.rank == *rank)
            .map(|live| {
                if live.whole_fiber {
                    live.tensor.clone()
                } else {
                    format!("{} by {}", live.tensor, live.fiber.join(" "))
                }
            });
        let held: Vec<String> = held.collect();
        if !held.is_empty() {
            parts.push(format!("{rank} holds {}", held.join(", ")));
        }
    }
    parts.join("; ")
}

fn check(name: &str, expected: &str) {
    let report = passes(&Cascade::load(name, None).unwrap_or_else(|problems| panic!("{problems}")));
    assert_eq!(summary(&report), expected, "{name}");
}

/// The text of a small cascade.
fn small(inputs: &str, outputs: &str, einsums: &str) -> String {
    format!(
        "(name: \"test\", source: \"assumed\", description: \"A test.\", inputs: [{inputs}], outputs: [{outputs}], \
         einsums: r#\"{einsums}\"#)"
    )
}

/// The same with ranks that a size gives.
fn with_sizes(sizes: &str, inputs: &str, outputs: &str, einsums: &str) -> String {
    let sizes = format!("parameters: {{{sizes}}}, einsums:");
    small(inputs, outputs, einsums).replace("einsums:", &sizes)
}

fn check_small(inputs: &str, outputs: &str, einsums: &str, expected: &str) {
    assert_eq!(
        summary(&passes(&parse(&small(inputs, outputs, einsums)))),
        expected,
        "{einsums}"
    );
}

/// The published table (FuseMax, MICRO 2024, Table I and section III), row by row.
#[test]
fn the_published_table() {
    // Z re-reads A only when all of A and B have gone into Y; B is not read again.
    check("pedagogical/c1", "K 2; K holds A");
    // X and Y are swept together; Z multiplies two finished numbers.
    check("pedagogical/c2", "K 1");
    // Running results are read at the coordinate at hand, and Z takes the last of RZ.
    check("pedagogical/c3", "K 1");
    // SN waits for no maximum: only the division re-reads it, after SD.
    check("attention/no-max", "E 1, P 1, M 2, F 1; M holds SN");
    // QK after the maximum, SN after the denominator.
    check("attention/three-pass", "E 1, P 1, M 3, F 1; M holds QK, SN");
    // Only the maximum stands between two reads: SD and SNV are swept together.
    check(
        "attention/three-pass-deferred",
        "E 1, P 1, M 2, F 1; M holds QK",
    );
    // Within a tile (M0): scores after LM, numerators after SLD. Along the tiles (M1): LM after GM, then SLN and PLM after SD.
    // Over all of M the scores are read once more, as SLN, when GM and SD are known; PLM and SD only touch summaries.
    check(
        "attention/two-pass",
        "E 1, P 1, M 2, M1 3, M0 3, F 1; M holds LM by M1, SLN, SLD by M1, PLM by M1",
    );
    // The division has moved behind the sums: nothing waits for SD.
    check(
        "attention/two-pass-deferred",
        "E 1, P 1, M 2, M1 2, M0 2, F 1; M holds LM by M1, SLN, SLD by M1",
    );
    // SLNV is reduced within the tile, so only summaries wait for GM.
    check(
        "attention/split",
        "E 1, P 1, M 1, M1 2, M0 2, F 1; M holds LM by M1, SLD by M1, SLNV by M1",
    );
    // The running maximum of a tile is read at that tile; AV takes the last RNV and RD and re-reads nothing. Within
    // a tile the scores wait for its maximum.
    check("attention/one-pass", "E 1, P 1, M 1, M1 1, M0 2, F 1");
}

#[test]
fn the_other_attentions() {
    // A mask leaves points out; the order of dependencies stays.
    check(
        "attention/one-pass-causal",
        "E 1, P 1, M 1, M1 1, M0 2, F 1",
    );
    check(
        "attention/sliding-window",
        "E 1, P 1, M 3, F 1; M holds QK, SN",
    );
    check(
        "attention/neighborhood-2d",
        "E 1, P 1, M 3, F 1; M holds QK, SN",
    );
    // As three-pass; heads and groups are not reduced.
    check(
        "attention/grouped-query",
        "E 1, P 1, H 1, M 3, G 1, F 1; M holds QK, SN",
    );
    // No normalisation over the keys.
    check("attention/sigmoid", "E 1, P 1, M 1, F 1");
    // The maximum stands between two reads of the scores; nothing waits for the denominator.
    check("attention/partial", "E 1, P 1, M 2, F 1; M holds QK");
    // PLM reads the maxima again; denominators and numerators are read once.
    check("attention/merge", "M1 2, P 1, F 1; M1 holds LM");
    // A stable softmax over the keys for each agent, then one over the agents for each query. TV descends from the agent
    // tokens, which the second softmax's maximum has swept by the time that AV reads it.
    check(
        "attention/agent",
        "E 1, P 1, A 3, M 3, F 1; A holds TV, QT, SN; M holds TK, TSN",
    );
    // The state is read at the token at hand.
    check("attention/linear-recurrent", "E 1, M 1, F 1");
    // The state goes from chunk to chunk; within a chunk the decays CG are read again when the chunk's whole decay is known.
    check(
        "attention/linear-chunked",
        "E 1, M 1, M1 1, M0 2, F 1, N0 1",
    );
    // Selecting is no pass over M, but K must stay to be picked from. The picked keys are multiplied with SQ a second
    // time, which re-reads both along E after the scores have been summed. Over the picked keys, a stable softmax.
    check(
        "attention/topk-gather",
        "E 2, P 1, M 1, F 1, T 3; E holds K, SQ; M holds K; T holds VS, QKS, SN",
    );
}

#[test]
fn the_linear_layers() {
    // Products follow each other; no input is read again after a sum over one of its ranks.
    check("transformer/ffn", "B 1, P 1, D 1, S 1");
    check("transformer/ffn-gated", "B 1, P 1, D 1, S 1");
    check(
        "transformer/projections",
        "B 1, P 1, D 1, H 1, E 1, G 1, F 1",
    );
    check("linear-algebra/matmul", "K 1, M 1, N 1");
}

#[test]
fn every_cascade_of_the_library_is_expected_above() {
    let text = include_str!("passes.rs");
    for name in cascades().names() {
        assert!(text.contains(&format!("\"{name}\"")), "{name}");
    }
}

#[test]
fn one_tile_of_the_one_pass_cascade_is_buffered() {
    let report = passes(&Cascade::load("attention/one-pass", None).unwrap());
    let held: Vec<_> = report
        .held_over("M0")
        .map(|live| (live.tensor.as_str(), live.whole_fiber))
        .collect();
    assert_eq!(held, [("BQK", true)]);
    assert_eq!(report.held_over("M").count(), 0);
}

#[test]
fn the_reasons_name_the_read_and_the_barrier() {
    let why = |name: &str, rank: &str| {
        passes(&Cascade::load(name, None).unwrap()).passes[rank]
            .why
            .clone()
    };
    assert_eq!(
        why("attention/three-pass", "M"),
        [
            "pass 2: SN reads QK across GM, which reduces M of QK",
            "pass 3: A reads SN across SD, which reduces M of SN",
        ]
    );
    assert_eq!(
        why("attention/two-pass-deferred", "M"),
        ["pass 2: SN reads SLN across GM (through PLM), which reduces M of LM"]
    );
    assert_eq!(
        why("attention/one-pass", "M"),
        ["1 pass: running results only (RM, RD, RNV), and nothing reads M again after their end"]
    );
    assert_eq!(
        why("attention/split", "M"),
        ["1 pass: what needs all of M is not followed by another read of the same fibers"]
    );
    assert_eq!(
        why("attention/three-pass", "F"),
        ["1 pass: nothing needs all of F"]
    );
    assert_eq!(
        why("pedagogical/c1", "K"),
        ["pass 2: Z reads A across Y, which reduces K of A, B"]
    );
    assert_eq!(
        why("attention/topk-gather", "M")[1..],
        [
            "no pass: KS reads K through IDX, T of M re-read; its fiber stays live",
            "no pass: VS reads V through IDX, T of M read",
        ]
    );
}

#[test]
fn the_words_that_are_held() {
    let cascade = Cascade::load("attention/split", None).unwrap();
    let given = [
        ("B", 1),
        ("H", 1),
        ("E", 8),
        ("F", 4),
        ("P", 5),
        ("M", 100),
        ("M0", 16),
    ];
    let sizes = cascade
        .sizes(&given.map(|(name, size)| (name.to_owned(), size)).into())
        .unwrap();
    let report = passes(&cascade);
    let words: Vec<_> = report
        .live
        .iter()
        .map(|live| {
            (
                live.tensor.as_str(),
                live.fiber_words(&sizes).unwrap(),
                live.words(&sizes).unwrap(),
            )
        })
        .collect();
    // 7 tiles of 16 keys; LM and SLD for 5 queries, SLNV for 4 values each besides.
    assert_eq!(words, [("LM", 7, 35), ("SLD", 7, 35), ("SLNV", 7, 140)]);
}

/// The statistics of the softmax in one running pass, then the quotient: the last value of a running result is a
/// barrier for whoever walks the fiber again.
#[test]
fn the_end_of_a_running_result_is_a_barrier() {
    let online = r#"(name: "test", source: "assumed", description: "A test.",
        inputs: ["X[m]"], outputs: ["A[m]"], einsums: r"
        RM[0] = -inf
        RD[0] = 0
        RM[m+1] = max(RM[m], X[m])
        RD[m+1] = RD[m] * exp(RM[m] - RM[m+1]) + exp(X[m] - RM[m+1])
        A[m] = exp(X[m] - RM[M]) / RD[M]
        ")"#;
    let report = passes(&parse(online));
    assert_eq!(summary(&report), "M 2; M holds X");
    assert_eq!(
        report.passes["M"].why,
        ["pass 2: A reads X across RM, which runs over M of X, and RD, which runs over M of RM, X"]
    );
}

#[test]
fn a_prefix_sum_read_at_its_own_coordinate_is_no_barrier() {
    let prefix = "S[i] = A[k] where k <= i\n";
    // Element i needs A up to i, which the walk over i has just read.
    check_small(
        "\"A[k]\", \"B[i]\"",
        "\"Z[i]\"",
        &format!("{prefix}Z[i] = A[i] * S[i] + B[i]"),
        "K 1, I 1",
    );
    // Every k of A again for each i: the last i needs all of them first.
    check_small(
        "\"A[k]\", \"B[i]\"",
        "\"Z[k, i]\"",
        &format!("{prefix}Z[k, i] = A[k] * S[i] * B[i]"),
        "K 2, I 1; K holds A",
    );
    // Not filtered to a prefix: a sum like any other.
    check_small(
        "\"A[k]\", \"B[i]\"",
        "\"Z[i]\"",
        "S[i] = A[k] * B[i]\nZ[i] = A[i] * S[i]",
        "K 2, I 1; K holds A",
    );
    // A suffix that grows as i falls is no prefix: the first i needs all of A.
    check_small(
        "\"A[k]\", \"B[i]\"",
        "\"Z[i]\"",
        "S[i] = A[k] * B[i] where k <= K - i\nZ[i] = A[i] * S[i]",
        "K 2, I 1; K holds A",
    );
    // Filtered by a mask, but walked again along k itself: a causal softmax without a maximum.
    check_small(
        "\"X[m, p]\"",
        "\"A[m, p]\"",
        "SN[m, p] = exp(X[m, p]) where m <= p\nSD[p] = SN[m, p]\nA[m, p] = SN[m, p] / SD[p]",
        "M 2, P 1; M holds SN",
    );
}

#[test]
fn barriers_are_inherited() {
    // W re-reads A after Y, which it only meets inside Z.
    check_small(
        "\"A[k]\", \"B[k]\"",
        "\"W\"",
        "Y = A[k]\nZ[k] = Y * B[k]\nW = Z[k] * A[k]",
        // Z does not re-read: B has not been swept before.
        "K 2; K holds A",
    );
    // Through numbers that carry nothing of K.
    check_small(
        "\"A[k]\"",
        "\"W\"",
        "Y = A[k]\nX = sqrt(Y)\nW = A[k] / X",
        "K 2; K holds A",
    );
    // T waits for Y within the first pass, since it sweeps B alone; A is read again after both.
    check_small(
        "\"A[k]\", \"B[k]\"",
        "\"W[k]\"",
        "Y = A[k]\nT = B[k] * Y\nW[k] = A[k] * T",
        "K 2; K holds A",
    );
}

#[test]
fn one_more_pass_for_each_barrier_in_a_row() {
    // Mean, variance, normalisation: X after the mean, its distance after the variance.
    check_small(
        "\"X[d]\"",
        "\"Y[d]\"",
        "MU = X[d]\nC[d] = X[d] - MU / D\nVAR = C[d] * C[d]\nY[d] = C[d] / sqrt(VAR)",
        "D 3; D holds X, C",
    );
    // Both moments in one pass: only the normalisation reads X again.
    check_small(
        "\"X[d]\"",
        "\"Y[d]\"",
        "MU = X[d]\nSQ = X[d] * X[d]\nY[d] = (X[d] - MU / D) / sqrt(SQ / D - MU * MU / D / D)",
        "D 2; D holds X",
    );
}

/// A window slides along the keys: over the window's own rank the softmax takes three passes, over the sequence one.
#[test]
fn a_sliding_read_is_one_pass_over_the_sequence() {
    let text = r#"(name: "test", source: "assumed", description: "A test.",
        inputs: ["X[p]", "K[m]"], outputs: ["A[w, p]"], parameters: { "W": 4 }, einsums: r"
        QK[w, p] = X[p] * K[p + w]
        GM[p] = QK[w, p] :: max(w)
        SN[w, p] = exp(QK[w, p] - GM[p])
        SD[p] = SN[w, p]
        A[w, p] = SN[w, p] / SD[p]
        ")"#;
    let report = passes(&parse(text));
    let counts = ["P", "M", "W"].map(|rank| report.over(rank));
    assert_eq!(counts, [Some(1), Some(1), Some(3)]);
}

/// Replaces every identifier that `names` holds.
fn replaced(text: &str, names: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        out.push_str(names.get(&word).unwrap_or(&word));
        word.clear();
        out.push(c);
    }
    out
}

/// Other names for ranks, their variables and tensors change names in the report and nothing else.
#[test]
fn renaming_changes_nothing() {
    for name in cascades().names() {
        let source = cascades().get(name).unwrap();
        let cascade = Cascade::parse(&source).unwrap();
        let mut names = BTreeMap::new();
        for rank in &cascade.ranks {
            names.insert(rank.name.clone(), format!("ZZ{}", rank.name));
            names.insert(rank.variable.clone(), format!("zz{}", rank.variable));
        }
        for tensor in &cascade.tensors {
            names.insert(tensor.name.clone(), format!("QX{}", tensor.name));
        }
        // Only the fields behind the texts hold names.
        let cut = source.text().find("inputs:").unwrap();
        let cut = source
            .text()
            .find("batch:")
            .map_or(cut, |batch| batch.min(cut));
        let (head, body) = source.text().split_at(cut);
        let renamed = parse(&format!("{head}{}", replaced(body, &names)));
        let back: BTreeMap<String, String> =
            names.iter().map(|(a, b)| (b.clone(), a.clone())).collect();
        let (before, after) = (
            format!("{:#?}", passes(&cascade)),
            format!("{:#?}", passes(&renamed)),
        );
        assert_ne!(before, after, "{name}");
        assert_eq!(
            before.trim_end(),
            replaced(&after, &back).trim_end(),
            "{name}"
        );
    }
}

const SOFTMAX: &str = "G = S[m] :: max(m)\nN[m] = exp(S[m] - G)\nD = N[m]\nA[m] = N[m] / D";

/// What a window of the keys makes for each key is a fiber as long: the maximum, the exponentials and the division walk
/// it three times, as they walk scores that no window made.
#[test]
fn a_fiber_made_by_a_window() {
    for window in ["m + k - 1", "m - k", "k + m"] {
        let einsums = format!("S[m] = X[{window}] * W[k]\n{SOFTMAX}");
        check_small(
            "\"X[m]\", \"W[k]\"",
            "\"A[m]\"",
            &einsums,
            "M 3, K 1; M holds S, N",
        );
    }
    // Under another name, the sequence of X is walked by way of P all the same. In steps, one score for each tile of X
    // is a summary.
    let renamed = SOFTMAX.replace("[m]", "[p]").replace("max(m)", "max(p)");
    for (window, passes_of_m) in [("p + k", 3), ("k + p", 3), ("p*K + k", 1)] {
        let report = passes(&parse(&with_sizes(
            "\"P\": \"ceil(M / K)\"",
            "\"X[m]\", \"W[k]\"",
            "\"A[p]\"",
            &format!("S[p] = X[{window}] * W[k]\n{renamed}"),
        )));
        let counts = (report.over("M"), report.over("P"));
        assert_eq!(counts, (Some(passes_of_m), Some(3)), "{window}");
    }
    // Scores convolved over keys and queries between the product and the softmax.
    let report = passes(&parse(&small(
        "\"Q[e, p]\", \"K[e, m]\", \"V[f, m]\", \"W[i, j]\"",
        "\"AV[f, p]\"",
        "T[m, p] = Q[e, p] * K[e, m] where m <= p
         QK[m, p] = T[m + i - 1, p - j] * W[i, j] where m <= p
         GM[p] = QK[m, p] :: max(m)
         SN[m, p] = exp(QK[m, p] - GM[p])
         SD[p] = SN[m, p]
         A[m, p] = SN[m, p] / SD[p]
         AV[f, p] = A[m, p] * V[f, m]",
    )));
    assert_eq!((report.over("M"), report.over("P")), (Some(3), Some(1)));
    // Strips pooled from an image, convolved, normalised over their length (mean, distance, variance) and multiplied
    // with the image: the image after the variance is no fourth pass, the distances are read in the same one.
    let report = passes(&parse(&small(
        "\"X[c, h, w]\", \"W1[k]\"",
        "\"Y[c, h, w]\"",
        "Z[c, h] = X[c, h, w]
         C[c, h] = Z[c, h + k - 1] * W1[k]
         MU[c] = C[c, h]
         XC[c, h] = C[c, h] - MU[c] / H
         VR[c] = XC[c, h] * XC[c, h]
         NZ[c, h] = XC[c, h] * rsqrt(VR[c] / H + 1)
         Y[c, h, w] = X[c, h, w] * sigmoid(NZ[c, h])",
    )));
    assert_eq!(report.over("H"), Some(3));
}

/// Keys and queries that are one tensor. A query's scores are read once for the maximum and once for the exponentials,
/// and its division divides two finished numbers: as many passes as with two tensors.
#[test]
fn tied_inputs() {
    let attention = |keys: &str, more: &str| {
        let inputs = if keys == "X" {
            "\"X[e, m]\""
        } else {
            "\"X[e, p]\", \"Y[e, m]\""
        };
        let tied = if keys == "X" { "\"P\": \"= M\"" } else { "" };
        let text = with_sizes(
            tied,
            &format!("{inputs}, \"V[f, m]\""),
            "\"AV[f, p]\"",
            &format!(
                "QK[m, p] = X[e, p] * {keys}[e, m]
                 GM[p] = QK[m, p] :: max(m)
                 SN[m, p] = exp(QK[m, p] - GM[p])
                 SD[p] = SN[m, p]
                 {more}"
            ),
        );
        let report = passes(&parse(&text));
        let held: Vec<String> = report.held_over("M").map(|l| l.tensor.clone()).collect();
        (report.over("M"), held.join(" "))
    };
    let deferred = "NV[f, p] = SN[m, p] * V[f, m]\nAV[f, p] = NV[f, p] / SD[p]";
    let divided = "A[m, p] = SN[m, p] / SD[p]\nAV[f, p] = A[m, p] * V[f, m]";
    for keys in ["X", "Y"] {
        // What is summed for each query waits for nothing else.
        assert_eq!(attention(keys, deferred), (Some(2), "QK".into()));
        assert_eq!(attention(keys, divided), (Some(3), "QK SN".into()));
    }
    // Attention between channels: X is summed over the places, so channels are walked for the maximum and for the
    // exponentials. They multiply X itself, which is in the same second walk.
    let channels = passes(&parse(&with_sizes(
        "\"G\": \"= F\"",
        "\"X[f, n]\"",
        "\"Y[g, n]\"",
        "C[f, g] = X[f, n] * X[g, n]
         GM[g] = C[f, g] :: max(f)
         SN[f, g] = exp(C[f, g] - GM[g])
         SD[g] = SN[f, g]
         NV[g, n] = SN[f, g] * X[f, n]
         Y[g, n] = NV[g, n] / SD[g]",
    )));
    assert_eq!(channels.over("F"), Some(2));
    // A sum over all of X stands for the whole fiber whatever its own coordinate: X after it is a second pass.
    let again = passes(&parse(&with_sizes(
        "\"P\": \"= M\"",
        "\"X[m]\"",
        "\"Z\"",
        "Y[p] = X[p] * X[m]\nZ = Y[p] * X[p]",
    )));
    assert_eq!(again.over("M"), Some(2));
}

/// Prefix sums of prefix sums: element m of each needs the fiber up to m, which one walk has read.
#[test]
fn nested_prefixes_are_one_pass() {
    let deep = "C[i] = A[k] where k <= i\nD[j] = C[i] where i <= j\nF[l] = D[j] where j < l\n";
    let report = passes(&parse(&with_sizes(
        "\"I\": \"= K\", \"J\": \"= K\"",
        "\"A[k]\", \"B[l]\"",
        "\"Z[l]\"",
        &format!("{deep}Z[l] = A[l] * F[l] + B[l]"),
    )));
    assert_eq!(summary(&report), "K 1, L 1, I 1, J 1");
    // All of the sums of prefixes before the first is used.
    let report = passes(&parse(&with_sizes(
        "\"I\": \"= K\"",
        "\"A[k]\"",
        "\"Z[k]\"",
        "C[i] = A[k] where k <= i\nD = C[i]\nZ[k] = A[k] * D",
    )));
    assert_eq!(summary(&report), "K 2, I 1; K holds A");
}

/// A fiber that begins at a view has the rank of its reader.
#[test]
fn what_is_held_names_its_ranks() {
    let report = passes(&parse(&small(
        "\"X[s]\", \"U[c]\"",
        "\"Y[c]\"",
        "Z[s] = gelu(X[s])\nR[c] = Z[c + C]\nMU = R[c] / C\nN[c] = R[c] - MU\nY[c] = Z[c] * N[c] * U[c]",
    )));
    for live in &report.live {
        assert!(!live.fiber.is_empty(), "{live:?}");
    }
}
