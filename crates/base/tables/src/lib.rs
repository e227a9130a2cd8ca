//! Tables as CSV (RFC 4180): a line of names, then lines of as many fields. Everything that writes or reads one does it here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be opened.
    #[error("cannot read the table {}: {reason}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        reason: io::Error,
    },
    /// The text is no table.
    #[error("the table {}: {reason}; write it again with the stage that made it", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Which line, and what is wrong with it.
        #[source]
        reason: csv::Error,
    },
    /// A column is missing.
    #[error("the table {} has no column `{name}`; it has {}", .file.display(), .found.join(", "))]
    NoColumn {
        /// The file.
        file: PathBuf,
        /// The column.
        name: String,
        /// The columns that there are.
        found: Vec<String>,
    },
    /// A field is no number.
    #[error("the table {}, line {line}: `{found}` is no number", .file.display())]
    NotANumber {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The field.
        found: String,
    },
}

/// The rows as CSV text; a field is quoted only if it has to be. The first row holds the names.
#[must_use]
pub fn to_csv<R, F>(rows: impl IntoIterator<Item = R>) -> String
where
    R: IntoIterator<Item = F>,
    F: AsRef<[u8]>,
{
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    for row in rows {
        // Writing to memory cannot fail.
        let _ = writer.write_record(row);
    }
    String::from_utf8_lossy(&writer.into_inner().unwrap_or_default()).into_owned()
}

/// A number with so many digits behind the point; one that is not defined is an empty field.
#[must_use]
pub fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}

/// A table that is read row by row.
pub struct Table<R = File> {
    file: PathBuf,
    names: Vec<String>,
    reader: csv::Reader<R>,
}

/// One row of a table.
pub struct Row {
    file: PathBuf,
    fields: csv::StringRecord,
}

impl Table {
    /// The table of `file`, read up to its names.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(file: &Path) -> Result<Self, TableError> {
        let opened = File::open(file).map_err(|reason| TableError::Unreadable { file: file.to_owned(), reason })?;
        Self::of(file, opened)
    }
}

impl<R: Read> Table<R> {
    /// The table that `text` holds; errors call it `file`.
    ///
    /// # Errors
    /// When the names cannot be read.
    pub fn of(file: &Path, text: R) -> Result<Self, TableError> {
        let mut reader = csv::Reader::from_reader(text);
        let names = reader.headers().map_err(|reason| TableError::Malformed { file: file.to_owned(), reason })?;
        Ok(Self { file: file.to_owned(), names: names.iter().map(str::to_owned).collect(), reader })
    }

    /// The names of the columns.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of a column.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn column(&self, name: &str) -> Result<usize, TableError> {
        let place = self.names.iter().position(|other| other == name);
        place.ok_or_else(|| TableError::NoColumn { file: self.file.clone(), name: name.to_owned(), found: self.names.clone() })
    }

    /// The rows that are still to be read. A row with too few or too many fields is an error.
    pub fn rows(&mut self) -> impl Iterator<Item = Result<Row, TableError>> {
        let file = &self.file;
        self.reader.records().map(|record| match record {
            Ok(fields) => Ok(Row { file: file.clone(), fields }),
            Err(reason) => Err(TableError::Malformed { file: file.clone(), reason }),
        })
    }
}

impl Row {
    /// The text of the field at `column`; empty beyond the last.
    #[must_use]
    pub fn text(&self, column: usize) -> &str {
        self.fields.get(column).unwrap_or_default()
    }

    /// The number at `column`; nothing if the field is empty.
    ///
    /// # Errors
    /// When the field holds something else.
    pub fn number(&self, column: usize) -> Result<Option<f64>, TableError> {
        match self.text(column) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| TableError::NotANumber {
                file: self.file.clone(),
                line: self.fields.position().map_or(0, csv::Position::line),
                found: text.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table<&[u8]> {
        Table::of(Path::new("a.csv"), text.as_bytes()).unwrap()
    }

    fn error(text: &str) -> String {
        let read = |text| table(text).rows().try_for_each(|row| row?.number(1).map(drop));
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let names = ["case", "a, b", "c"];
        let odd = ["say \"a\"", "two\nlines", ""];
        let text = to_csv([names, odd]);
        assert_eq!(text, "case,\"a, b\",c\n\"say \"\"a\"\"\",\"two\nlines\",\n");
        let mut table = table(&text);
        assert_eq!(table.names(), names);
        let row = table.rows().next().unwrap().unwrap();
        assert_eq!([row.text(0), row.text(1), row.text(2)], odd);
    }

    #[test]
    fn a_field_that_is_empty_is_no_number() {
        assert_eq!(to_csv([["a", "b"].map(str::to_owned), [number(Some(0.5), 2), number(None, 2)]]), "a,b\n0.50,\n");
        let mut table = table("a,b\n0.50,\n");
        let row = table.rows().next().unwrap().unwrap();
        assert_eq!((row.number(0).unwrap(), row.number(1).unwrap()), (Some(0.5), None));
    }

    #[test]
    fn errors_name_the_file_the_line_and_what_was_found() {
        assert_eq!(error("a,b\n1,2\n1,much\n"), "the table a.csv, line 3: `much` is no number");
        assert!(error("a,b\n1\n").contains("line: 2") && error("a,b\n1\n").contains("a.csv"), "{}", error("a,b\n1\n"));
        let missing = table("a,b\n").column("c").unwrap_err().to_string();
        assert_eq!(missing, "the table a.csv has no column `c`; it has a, b");
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent.csv");
        assert!(Table::open(&absent).err().unwrap().to_string().contains("absent.csv"));
    }
}
