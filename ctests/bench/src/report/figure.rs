//! Figures as people read them: three digits and a unit.

/// What a figure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Bytes a second.
    Throughput,
    /// KiB.
    Memory,
    /// Bytes.
    Bytes,
    /// A share of one processor.
    Cores,
    /// A number of things.
    Count,
}

/// A figure with its unit.
pub fn shown(figure: f64, unit: Unit) -> String {
    match unit {
        Unit::Time => scaled(figure, 1000.0, &["ns", "µs", "ms", "s"]),
        Unit::Throughput => scaled(figure / 1e6, 1000.0, &["MB/s", "GB/s"]),
        Unit::Bytes => scaled(figure / 1e3, 1000.0, &["kB", "MB", "GB"]),
        Unit::Cores => format!("{:.1} %", figure * 100.0),
        Unit::Count => format!("{figure:.0}"),
        Unit::Memory => scaled(figure, 1024.0, &["KiB", "MiB", "GiB"]),
    }
}

fn scaled(mut figure: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter().peekable();
    let mut unit = units.next().copied().unwrap_or_default();
    while let Some(next) = units.next_if(|_| figure >= step) {
        figure /= step;
        unit = next;
    }
    let digits = if figure >= 100.0 || figure == 0.0 { 0 } else { if figure >= 10.0 { 1 } else { 2 } };
    format!("{figure:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_three_digits_and_the_unit_that_fits() {
        let times = [0.0, 59.6, 999.0, 6_110.0, 25_990.0, 2_872_945.0, 1.5e9].map(|figure| shown(figure, Unit::Time));
        assert_eq!(times, ["0 ns", "59.6 ns", "999 ns", "6.11 µs", "26.0 µs", "2.87 ms", "1.50 s"]);
        assert_eq!(shown(2048.0, Unit::Memory), "2.00 MiB");
        assert_eq!(shown(9_830_000.0, Unit::Bytes), "9.83 MB");
        assert_eq!(shown(0.284, Unit::Cores), "28.4 %");
        assert_eq!(shown(1.8e9, Unit::Throughput), "1.80 GB/s");
    }
}
