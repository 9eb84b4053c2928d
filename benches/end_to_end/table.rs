//! The results of interleaved rounds: medians with their ranges, and ratios to a floor of the same round.

use crate::load::{Outcome, Spread};

/// A floor to which a row is compared, and the goals of the comparison.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// The letter of the floor's row.
    pub floor: &'static str,
    /// The most CPU time of a request, as a part of the floor's.
    pub cpu: Option<f64>,
    /// The fewest requests a second, as a part of the floor's.
    pub rate: Option<f64>,
}

impl Beside {
    /// A comparison without goals.
    pub const fn only(floor: &'static str) -> Self {
        Self {
            floor,
            cpu: None,
            rate: None,
        }
    }
}

/// A row: what was measured, once in each round.
pub struct Row {
    /// The letter by which other rows refer to it; empty if none does.
    pub letter: &'static str,
    pub name: String,
    pub beside: Vec<Beside>,
    pub outcomes: Vec<Outcome>,
}

/// The results as a table in Markdown.
pub fn results(rows: &[Row]) -> String {
    let mut text = format!(
        "| {:<52} | {:<24} | {:<21} | {:>5} | {:>6} |\n",
        "", "requests a second", "CPU, us a request", "busy", "bytes"
    );
    text.push_str(&format!(
        "| {:-<52} | {:-<24} | {:-<21} | {:-<4}: | {:-<5}: |\n",
        "", "", "", "", ""
    ));
    for row in rows {
        let spread = |part: fn(&Outcome) -> f64| Spread::of(row.outcomes.iter().map(part));
        let (Some(rate), Some(cpu), Some(busy), Some(bytes)) = (
            spread(|o| o.per_second),
            spread(|o| o.cpu_micros),
            spread(|o| o.busy),
            spread(|o| o.answer_bytes),
        ) else {
            continue;
        };
        text.push_str(&format!(
            "| {:<52} | {:<24} | {:<21} | {:>4.0}% | {:>6.0} |\n",
            title(row),
            rate.text(0),
            cpu.text(1),
            busy.median * 100.0,
            bytes.median
        ));
    }
    text
}

fn title(row: &Row) -> String {
    match row.letter {
        "" => row.name.clone(),
        letter => format!("({letter}) {}", row.name),
    }
}

/// The comparisons to floors as a table in Markdown: the median and the range of the ratios of each round.
pub fn comparisons(rows: &[Row]) -> String {
    let mut text = format!(
        "| {:<52} | {:<4} | {:<42} | {:<42} |\n",
        "", "to", "CPU, less is better", "requests a second, more is better"
    );
    text.push_str(&format!(
        "| {:-<52} | {:-<4} | {:-<42} | {:-<42} |\n",
        "", "", "", ""
    ));
    for row in rows {
        for beside in &row.beside {
            let floor = rows.iter().find(|other| other.letter == beside.floor);
            let Some(floor) = floor else { continue };
            let ratio = |part: fn(&Outcome) -> f64| {
                let pairs = row.outcomes.iter().zip(&floor.outcomes);
                Spread::of(pairs.map(|(own, base)| part(own) / part(base)))
            };
            let (Some(cpu), Some(rate)) = (ratio(|o| o.cpu_micros), ratio(|o| o.per_second)) else {
                continue;
            };
            text.push_str(&format!(
                "| {:<52} | {:<4} | {:<42} | {:<42} |\n",
                title(row),
                format!("({})", beside.floor),
                judged(cpu, beside.cpu, "at most", |ratio, goal| ratio <= goal),
                judged(rate, beside.rate, "at least", |ratio, goal| ratio >= goal),
            ));
        }
    }
    text
}

fn judged(ratio: Spread, goal: Option<f64>, bound: &str, is_met: fn(f64, f64) -> bool) -> String {
    let verdict = goal.map_or(String::new(), |goal| {
        let verdict = match is_met(ratio.median, goal) {
            true => "met",
            false => "MISSED",
        };
        format!(", goal {bound} {goal:.2}: {verdict}")
    });
    ratio.text(2) + &verdict
}

/// The times of single calls, one after the other, as a table in Markdown.
pub fn latencies(rows: &[Row]) -> String {
    let mut text = format!("| {:<52} | {:<24} |\n", "", "us from call to answer");
    text.push_str(&format!("| {:-<52} | {:-<24} |\n", "", ""));
    for row in rows {
        let taken = row.outcomes.iter().filter_map(|o| o.latency_micros);
        if let Some(spread) = Spread::of(taken) {
            let line = format!("| {:<52} | {:<24} |\n", title(row), spread.text(0));
            text.push_str(&line);
        }
    }
    text
}
