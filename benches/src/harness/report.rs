//! The rows as a table for people.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::Row;

/// All rows, with what was asked for and whether it was reached.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["case", "ours", "rival", "", "unit", "ratio", "asked", "reached"]);
    for row in rows {
        let reached = row.reached().map(|reached| if reached { "yes" } else { "no" });
        table.add_row([
            row.case.clone(),
            figure(row.ours),
            row.rival_name.clone(),
            figure(row.rival),
            row.unit.to_owned(),
            figure(row.ratio),
            row.asked.map(|asked| format!("{asked}")).unwrap_or_default(),
            reached.unwrap_or_default().to_owned(),
        ]);
    }
    for column in [1, 3, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Three significant digits: more would be noise.
fn figure(value: f64) -> String {
    let (value, suffix) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e4 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let figures = [14_234_567.0, 98_765.0, 1_234.0, 56.78, 1.234, 0.012];
        let texts = ["14.2 M", "98.8 k", "1234", "56.8", "1.23", "0.01"];
        assert_eq!(figures.map(figure), texts);
    }
}
