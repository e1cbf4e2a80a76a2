//! Drawing a figure, the same for SVG and PNG.

use std::{fs, io::BufWriter, path::Path, sync::OnceLock};

use ab_glyph::{Font, FontRef, ScaleFont};
use einflow_spec::Problem;
use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        FontStyle, FontTransform, RGBColor, ShapeStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Bar, Content, Figure, Group, Panel, colours, outline::Outlined, waterfall};
use einflow_engine::units::si;

/// DejaVu Sans; its licence stands beside it.
static FONT: &[u8] = include_bytes!("../../fonts/DejaVuSans.ttf");

/// Drawn pixels for one of the figure's: PNG is sharp on dense screens, SVG keeps half pixels.
pub(super) const SCALE: i32 = 2;
/// Width of a figure.
const WIDTH: i32 = 1000;
/// Height of one panel of several, and of the only one.
const PANEL: (i32, i32) = (290, 400);
/// Room of a panel left of its axis, right, above and below.
const MARGINS: (i32, i32, i32, i32) = (74, 16, 34, 52);

pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const PALE: RGBColor = RGBColor(222, 222, 222);

fn font() -> &'static FontRef<'static> {
    static PARSED: OnceLock<FontRef<'static>> = OnceLock::new();
    PARSED.get_or_init(|| {
        // The same bytes under every name that plotters asks for.
        let _ = plotters::style::register_font("sans-serif", FontStyle::Normal, FONT);
        FontRef::try_from_slice(FONT).expect("the embedded font is whole")
    })
}

/// Draws a figure as `NAME.svg` and `NAME.png` into a folder, which is made if needed.
///
/// # Errors
/// A folder that cannot be written.
pub fn save(figure: &Figure, folder: &Path) -> Result<(), Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        Problem::nowhere(format!(
            "cannot draw {} into {}: {e}",
            figure.name,
            folder.display()
        ))
        .help("name a folder that can be written with --plot")
    };
    fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    let font = font();
    let sheet = Sheet::new(figure);
    let size = ((WIDTH * SCALE) as u32, (sheet.height * SCALE) as u32);
    let (mut svg, mut texts) = (String::new(), String::new());
    {
        let root = Outlined::new(&mut svg, &mut texts, font, size).into_drawing_area();
        sheet.draw(&root).map_err(|e| failed(&e))?;
        root.present().map_err(|e| failed(&e))?;
    }
    let drawn = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    let shown = format!(
        "width=\"{WIDTH}\" height=\"{}\" role=\"img\" aria-label=\"{}\"",
        sheet.height,
        figure
            .title
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;")
    );
    let svg = svg
        .replacen(&drawn, &shown, 1)
        .replace("</svg>", &format!("{texts}</svg>"));
    fs::write(folder.join(format!("{}.svg", figure.name)), svg).map_err(|e| failed(&e))?;
    let mut pixels = vec![0; 3 * size.0 as usize * size.1 as usize];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        sheet.draw(&root).map_err(|e| failed(&e))?;
        root.present().map_err(|e| failed(&e))?;
    }
    let path = folder.join(format!("{}.png", figure.name));
    let file = fs::File::create(path).map_err(|e| failed(&e))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|e| failed(&e))?;
    writer.write_image_data(&pixels).map_err(|e| failed(&e))?;
    writer.finish().map_err(|e| failed(&e))
}

/// Width of a text in the figure's pixels.
pub(super) fn width(text: &str, size: i32) -> i32 {
    let font = font().as_scaled(size as f32);
    let width: f32 = text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum();
    width.ceil() as i32
}

pub(super) type Area<DB> = DrawingArea<DB, Shift>;
pub(super) type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// A figure and where its parts stand.
pub(super) struct Sheet<'a> {
    figure: &'a Figure,
    /// Legend: name, colour, place.
    legend: Vec<(String, RGBColor, (i32, i32))>,
    columns: i32,
    top: i32,
    panel: i32,
    height: i32,
}

/// A text and how it stands.
pub(super) struct Words<'a> {
    pub text: &'a str,
    pub at: (i32, i32),
    pub size: i32,
    pub anchor: (HPos, VPos),
    pub turned: bool,
    /// On a dark ground.
    pub light: bool,
}

pub(super) fn words(text: &str, at: (i32, i32), size: i32, anchor: (HPos, VPos)) -> Words<'_> {
    Words {
        text,
        at,
        size,
        anchor,
        turned: false,
        light: false,
    }
}

pub(super) fn write<DB: DrawingBackend>(area: &Area<DB>, words: &Words<'_>) -> Drawn<DB> {
    let transform = if words.turned {
        FontTransform::Rotate270
    } else {
        FontTransform::None
    };
    let style = ("sans-serif", words.size * SCALE)
        .into_font()
        .transform(transform)
        .color(if words.light { &WHITE } else { &INK })
        .pos(Pos::new(words.anchor.0, words.anchor.1));
    let at = (words.at.0 * SCALE, words.at.1 * SCALE);
    area.draw(&Text::new(words.text.to_string(), at, style))
}

pub(super) fn rule<DB: DrawingBackend>(
    area: &Area<DB>,
    from: (i32, i32),
    to: (i32, i32),
    colour: RGBColor,
) -> Drawn<DB> {
    let scaled = |p: (i32, i32)| (p.0 * SCALE, p.1 * SCALE);
    let style = ShapeStyle::from(&colour).stroke_width(SCALE as u32);
    area.draw(&PathElement::new([scaled(from), scaled(to)], style))
}

/// The panel's frame and what its edges stand for.
pub(super) struct Frame {
    pub left: i32,
    pub right: i32,
    pub top: i32,
    pub bottom: i32,
    y: Axis,
}

/// From values to places along one direction.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    pub log: bool,
}

impl Axis {
    /// Holds all values; from zero where it is linear.
    fn around(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let mut range = (f64::INFINITY, 0f64);
        for value in values.filter(|v| v.is_finite() && (!log || *v > 0.0)) {
            range = (range.0.min(value), range.1.max(value));
        }
        if !range.0.is_finite() {
            range = (1.0, 1.0);
        }
        if log {
            // A third of an octave of air on both sides, and never less than an octave in all.
            let air = (range.1 / range.0).powf(0.06).max(1.3);
            return Self {
                low: range.0 / air,
                high: range.1 * air,
                log,
            };
        }
        let high = if range.1 > 0.0 { range.1 * 1.06 } else { 1.0 };
        Self {
            low: 0.0,
            high,
            log,
        }
    }

    /// 0 at the low end, 1 at the high.
    pub fn share(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).log2() / (self.high / self.low).log2()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Round values to label.
    pub fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.low, self.high);
        if self.log {
            let decades = (high / low).log10();
            let steps: &[f64] = match decades {
                d if d < 1.3 => &[1.0, 2.0, 3.0, 5.0, 7.0],
                d if d < 3.0 => &[1.0, 2.0, 5.0],
                _ => &[1.0],
            };
            let every = (decades / 7.0).ceil().max(1.0) as i32;
            let first = low.log10().floor() as i32;
            let last = high.log10().ceil() as i32;
            return (first..=last)
                .filter(|d| d.rem_euclid(every) == 0)
                .flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)))
                .filter(|v| (low..=high).contains(v))
                .collect();
        }
        let raw = (high - low) / 5.0;
        let unit = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|s| s * unit)
            .find(|s| *s >= raw * 0.99)
            .unwrap_or(10.0 * unit);
        let first = (low / step).ceil();
        (0..)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|v| *v <= high)
            .collect()
    }
}

/// A tick's label: short.
pub(super) fn tick(value: f64) -> String {
    if value == 0.0 || (1e-2..1e4).contains(&value.abs()) {
        // Rounding hides what binary fractions add.
        return format!("{}", (value * 1e6).round() / 1e6);
    }
    let text = si(value, "");
    let (digits, prefix) = text.trim().split_at(
        text.trim()
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(text.trim().len()),
    );
    let digits = digits.trim();
    let short = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    format!("{short}{prefix}")
}

impl<'a> Sheet<'a> {
    fn new(figure: &'a Figure) -> Self {
        let mut names: Vec<String> = Vec::new();
        for panel in &figure.panels {
            match &panel.content {
                Content::Bars(groups) => {
                    for (name, _) in groups.iter().flat_map(|g| &g.bars).flat_map(|b| &b.parts) {
                        if !names.contains(name) {
                            names.push(name.clone());
                        }
                    }
                }
                Content::Points { series, .. } => {
                    for s in series {
                        if !names.contains(&s.name) {
                            names.push(s.name.clone());
                        }
                    }
                }
                Content::Lanes { lanes, .. } => {
                    for lane in lanes {
                        if !names.contains(&lane.name) {
                            names.push(lane.name.clone());
                        }
                    }
                }
            }
        }
        let mut legend = Vec::new();
        let (mut x, mut y) = (24, 52);
        for (name, colour) in names.iter().zip(colours::together(&names)) {
            let taken = 22 + width(name, 14) + 20;
            if x + taken > WIDTH - 16 && x > 24 {
                x = 24;
                y += 22;
            }
            legend.push((name.clone(), colour, (x, y)));
            x += taken;
        }
        let columns = if figure.panels.len() > 1 { 2 } else { 1 };
        let rows = (figure.panels.len() as i32 + columns - 1) / columns;
        let top = y + 24;
        let lanes = figure.panels.iter().map(|p| match &p.content {
            Content::Lanes { lanes, .. } => waterfall::height(lanes) + MARGINS.2 + MARGINS.3,
            _ => 0,
        });
        let panel = if columns > 1 { PANEL.0 } else { PANEL.1 };
        let panel = lanes.max().filter(|h| *h > 0).unwrap_or(panel);
        let bottom = if figure.note.is_empty() { 8 } else { 30 };
        Self {
            figure,
            legend,
            columns,
            top,
            panel,
            height: top + rows * panel + bottom,
        }
    }

    pub(super) fn colour(&self, name: &str) -> RGBColor {
        let found = self.legend.iter().find(|(n, _, _)| n == name);
        found.map_or(INK, |(_, colour, _)| *colour)
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>) -> Drawn<DB> {
        area.fill(&WHITE)?;
        write(
            area,
            &words(&self.figure.title, (24, 14), 19, (HPos::Left, VPos::Top)),
        )?;
        for (name, colour, (x, y)) in &self.legend {
            let corners = [(*x, y - 8), (x + 14, y + 5)].map(|(x, y)| (x * SCALE, y * SCALE));
            area.draw(&Rectangle::new(corners, colour.filled()))?;
            write(
                area,
                &words(name, (x + 20, *y), 14, (HPos::Left, VPos::Center)),
            )?;
        }
        for (i, panel) in self.figure.panels.iter().enumerate() {
            let each = WIDTH / self.columns;
            let left = (i as i32 % self.columns) * each;
            let top = self.top + (i as i32 / self.columns) * self.panel;
            self.panel(area, panel, (left, top, left + each, top + self.panel))?;
        }
        if !self.figure.note.is_empty() {
            let at = (24, self.height - 12);
            write(
                area,
                &words(&self.figure.note, at, 13, (HPos::Left, VPos::Bottom)),
            )?;
        }
        Ok(())
    }

    fn panel<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        panel: &Panel,
        (left, top, right, bottom): (i32, i32, i32, i32),
    ) -> Drawn<DB> {
        let y = match &panel.content {
            Content::Bars(groups) => {
                let bars = groups.iter().flat_map(|g| &g.bars);
                Axis::around(bars.map(|b| b.parts.iter().map(|p| p.1).sum()), false)
            }
            Content::Points { series, log } => {
                let points = series.iter().flat_map(|s| &s.points);
                Axis::around(points.map(|p| p.1), log.1)
            }
            Content::Lanes { .. } => Axis::around(std::iter::empty(), false),
        };
        let frame = Frame {
            left: left + MARGINS.0,
            right: right - MARGINS.1,
            top: top + MARGINS.2,
            bottom: bottom - MARGINS.3,
            y,
        };
        let middle = (frame.left + frame.right) / 2;
        write(
            area,
            &words(
                &panel.title,
                (middle, top + 10),
                15,
                (HPos::Center, VPos::Top),
            ),
        )?;
        let numbers = !matches!(panel.content, Content::Lanes { .. });
        for value in y.ticks().into_iter().filter(|_| numbers) {
            let at = frame.height(value);
            rule(area, (frame.left, at), (frame.right, at), PALE)?;
            let label = tick(value);
            write(
                area,
                &words(
                    &label,
                    (frame.left - 6, at),
                    13,
                    (HPos::Right, VPos::Center),
                ),
            )?;
        }
        let turned = Words {
            turned: true,
            ..words(
                &panel.y,
                (left + 12, (frame.top + frame.bottom) / 2),
                14,
                (HPos::Center, VPos::Top),
            )
        };
        write(area, &turned)?;
        write(
            area,
            &words(
                &panel.x,
                (middle, bottom - 8),
                14,
                (HPos::Center, VPos::Bottom),
            ),
        )?;
        match &panel.content {
            Content::Bars(groups) => self.bars(area, groups, &frame)?,
            Content::Points { series, log } => self.points(area, series, log.0, &frame)?,
            Content::Lanes { lanes, shown } => self.lanes(area, lanes, *shown, &frame)?,
        }
        rule(
            area,
            (frame.left, frame.bottom),
            (frame.right, frame.bottom),
            INK,
        )
    }

    fn bars<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        groups: &[Group],
        frame: &Frame,
    ) -> Drawn<DB> {
        let each = f64::from(frame.right - frame.left) / groups.len().max(1) as f64;
        for (i, group) in groups.iter().enumerate() {
            let start = f64::from(frame.left) + each * (i as f64 + 0.08);
            let wide = each * 0.84 / group.bars.len().max(1) as f64;
            // A lone bar need not fill its group.
            let wide = wide.min(90.0);
            let start = start + (each * 0.84 - wide * group.bars.len() as f64) / 2.0;
            for (j, bar) in group.bars.iter().enumerate() {
                self.bar(area, bar, (start + wide * j as f64, wide), frame)?;
            }
            let middle = (f64::from(frame.left) + each * (i as f64 + 0.5)) as i32;
            let size = if groups.len() > 8 { 11 } else { 13 };
            write(
                area,
                &words(
                    &group.label,
                    (middle, frame.bottom + 6),
                    size,
                    (HPos::Center, VPos::Top),
                ),
            )?;
        }
        Ok(())
    }

    fn bar<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        bar: &Bar,
        (left, wide): (f64, f64),
        frame: &Frame,
    ) -> Drawn<DB> {
        let scale = f64::from(SCALE);
        let across = |x: f64| (x * scale).round() as i32;
        let exact = |value: f64| {
            let (bottom, height) = (f64::from(frame.bottom), f64::from(frame.bottom - frame.top));
            ((bottom - frame.y.share(value) * height) * scale).round() as i32
        };
        let mut sum = 0.0;
        for (name, value) in &bar.parts {
            let corners = [
                (across(left) + 1, exact(sum + value)),
                (across(left + wide) - 1, exact(sum)),
            ];
            area.draw(&Rectangle::new(corners, self.colour(name).filled()))?;
            sum += value;
        }
        let top = (exact(sum) / SCALE - 2, (left + wide / 2.0) as i32);
        write(
            area,
            &words(&bar.label, (top.1, top.0), 11, (HPos::Center, VPos::Bottom)),
        )
    }

    fn points<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        series: &[super::Series],
        log: bool,
        frame: &Frame,
    ) -> Drawn<DB> {
        let x = Axis::around(series.iter().flat_map(|s| &s.points).map(|p| p.0), log);
        let across = |value: f64| {
            let wide = f64::from(frame.right - frame.left);
            frame.left + (x.share(value) * wide).round() as i32
        };
        for value in x.ticks() {
            let at = across(value);
            rule(area, (at, frame.top), (at, frame.bottom), PALE)?;
            let label = tick(value);
            write(
                area,
                &words(
                    &label,
                    (at, frame.bottom + 6),
                    13,
                    (HPos::Center, VPos::Top),
                ),
            )?;
        }
        for s in series {
            let colour = self.colour(&s.name);
            let shown = s.points.iter().filter(|(x, y)| {
                (!log || *x > 0.0) && (!frame.y.log || *y > 0.0) && x.is_finite() && y.is_finite()
            });
            let places: Vec<(i32, i32)> = shown
                .map(|(x, y)| (across(*x) * SCALE, frame.height(*y) * SCALE))
                .collect();
            if s.joined {
                let style = ShapeStyle::from(&colour).stroke_width(2 * SCALE as u32);
                area.draw(&PathElement::new(places.clone(), style))?;
            }
            let (radius, style) = if s.pale {
                (3 * SCALE / 2, colour.mix(0.25).filled())
            } else {
                (4 * SCALE, colour.filled())
            };
            for place in places {
                area.draw(&Circle::new(place, radius, style))?;
            }
        }
        Ok(())
    }
}

impl Frame {
    fn height(&self, value: f64) -> i32 {
        let height = f64::from(self.bottom - self.top);
        self.bottom - (self.y.share(value) * height).round() as i32
    }
}
