//! SVG whose text is outlines: it looks the same where the font is not installed.

use std::fmt::Write as _;

use ab_glyph::{Font, FontRef, OutlineCurve, ScaleFont};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
    text_anchor::{HPos, VPos},
};
use plotters_svg::SVGBackend;

/// plotters' SVG backend, but for text.
pub struct Outlined<'a> {
    inner: SVGBackend<'a>,
    font: &'a FontRef<'static>,
    /// The paths of all text; they belong before the closing tag.
    texts: &'a mut String,
}

impl<'a> Outlined<'a> {
    /// Draws into `svg`, and its text into `texts`.
    pub fn new(
        svg: &'a mut String,
        texts: &'a mut String,
        font: &'a FontRef<'static>,
        size: (u32, u32),
    ) -> Self {
        Self {
            inner: SVGBackend::with_string(svg, size),
            font,
            texts,
        }
    }
}

type Drawn<E> = Result<(), DrawingErrorKind<E>>;

impl DrawingBackend for Outlined<'_> {
    type ErrorType = std::io::Error;

    fn get_size(&self) -> (u32, u32) {
        self.inner.get_size()
    }

    fn ensure_prepared(&mut self) -> Drawn<Self::ErrorType> {
        self.inner.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<Self::ErrorType> {
        self.inner.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn<Self::ErrorType> {
        self.inner.draw_pixel(point, color)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        self.inner.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn<Self::ErrorType> {
        self.inner.draw_rect(upper_left, bottom_right, style, fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        self.inner.draw_path(path, style)
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn<Self::ErrorType> {
        self.inner.draw_circle(center, radius, style, fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vertices: I,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        self.inner.fill_polygon(vertices, style)
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Drawn<Self::ErrorType> {
        let font = self.font.as_scaled(style.size() as f32);
        let width: f32 = text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum();
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        let baseline = match style.anchor().v_pos {
            VPos::Top => font.ascent(),
            VPos::Center => (font.ascent() + font.descent()) / 2.0,
            VPos::Bottom => font.descent(),
        };
        let turn = match style.transform() {
            FontTransform::None => 0,
            FontTransform::Rotate90 => 90,
            FontTransform::Rotate180 => 180,
            FontTransform::Rotate270 => 270,
        };
        let rgb = style.color().rgb;
        let escaped = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;");
        // Writing to a string cannot fail.
        let _ = write!(
            self.texts,
            "<g fill=\"#{:02X}{:02X}{:02X}\" aria-label=\"{escaped}\" transform=\"translate({x},{y})",
            rgb.0, rgb.1, rgb.2
        );
        if turn != 0 {
            let _ = write!(self.texts, " rotate({turn})");
        }
        self.texts.push_str("\"><path d=\"");
        let mut pen = left;
        for c in text.chars() {
            let id = font.glyph_id(c);
            self.glyph(id, (pen, baseline), style.size() as f32);
            pen += font.h_advance(id);
        }
        self.texts.push_str("\"/></g>\n");
        Ok(())
    }
}

impl Outlined<'_> {
    /// Adds a glyph's outline with its origin at `at`.
    fn glyph(&mut self, id: ab_glyph::GlyphId, at: (f32, f32), size: f32) {
        let Some(outline) = self.font.outline(id) else {
            return;
        };
        let scale = size / self.font.height_unscaled();
        let place = |p: ab_glyph::Point| (at.0 + p.x * scale, at.1 - p.y * scale);
        let mut end: Option<ab_glyph::Point> = None;
        for curve in &outline.curves {
            let (start, rest): (ab_glyph::Point, Vec<ab_glyph::Point>) = match curve {
                OutlineCurve::Line(a, b) => (*a, vec![*b]),
                OutlineCurve::Quad(a, b, c) => (*a, vec![*b, *c]),
                OutlineCurve::Cubic(a, b, c, d) => (*a, vec![*b, *c, *d]),
            };
            if end != Some(start) {
                let (x, y) = place(start);
                let _ = write!(self.texts, "M{x:.1} {y:.1}");
            }
            self.texts.push(['L', 'Q', 'C'][rest.len() - 1]);
            for (i, point) in rest.iter().enumerate() {
                let (x, y) = place(*point);
                let gap = if i == 0 { "" } else { " " };
                let _ = write!(self.texts, "{gap}{x:.1} {y:.1}");
            }
            end = rest.last().copied();
        }
    }
}
