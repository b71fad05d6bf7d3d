//! Plots as SVG, on a white ground, so that they can be read wherever they are shown.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Unit, shown};

const WIDTH: u32 = 760;
const BAR: u32 = 30;
const HEAD: u32 = 40;
/// Of the width, for names.
const NAMES: i32 = 290;
/// Of the width, for figures.
const FIGURES: i32 = 80;
const OURS: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const OTHERS: RGBColor = RGBColor(0xb8, 0xbf, 0xc6);

/// A bar for each name, from 0, with its time in words. Ours have another colour.
pub fn bars(path: &Path, title: &str, bars: &[(&str, f64)]) -> Result<()> {
    let height = HEAD + BAR * u32::try_from(bars.len())? + 10;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    draw(&area, title, bars).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    bars: &[(&str, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    let text = |size: i32, at: HPos| {
        TextStyle::from(("sans-serif", size).into_font()).pos(Pos::new(at, VPos::Center)).color(&BLACK)
    };
    area.fill(&WHITE)?;
    area.draw(&Text::new(title.to_owned(), (10, i32::try_from(HEAD / 2)?), text(17, HPos::Left)))?;
    let most = bars.iter().map(|(_, figure)| *figure).fold(1.0, f64::max);
    let room = f64::from(i32::try_from(WIDTH)? - NAMES - FIGURES);
    for (n, (name, figure)) in bars.iter().enumerate() {
        let top = i32::try_from(HEAD + BAR * u32::try_from(n)?)?;
        let middle = top + i32::try_from(BAR / 2)?;
        let end = NAMES + (figure / most * room) as i32;
        let colour = if name.starts_with("ldmesh") { OURS } else { OTHERS };
        area.draw(&Text::new((*name).to_owned(), (NAMES - 8, middle), text(14, HPos::Right)))?;
        let corners = [(NAMES, top + 4), (end.max(NAMES + 1), top + i32::try_from(BAR)? - 4)];
        area.draw(&Rectangle::new(corners, colour.filled()))?;
        area.draw(&Text::new(shown(*figure, Unit::Time), (end + 6, middle), text(14, HPos::Left)))?;
    }
    area.present()?;
    Ok(())
}
