//! Names and colours of classes in files of their own.

use std::fmt::Write as _;

use labels::Class;

/// The label descriptions of ITK-SNAP (`.label`).
#[must_use]
pub fn itk_snap_labels(classes: &[&Class]) -> String {
    let mut text = String::from(
        "################################################\n# ITK-SnAP Label Description File\n# File format:\n\
         # IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n################################################\n\
         \x20   0     0    0    0        0  0  0    \"Clear Label\"\n",
    );
    for class in classes {
        let [red, green, blue] = class.color;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:5} {red:5} {green:4} {blue:4}        1  1  1    \"{}\"", class.value, class.name.replace('"', "'"));
    }
    text
}

/// A colour table of 3D Slicer (`.ctbl`).
#[must_use]
pub fn slicer_colors(classes: &[&Class]) -> String {
    let mut text = String::from("# Color table file\n# label name R G B A\n0 background 0 0 0 0\n");
    for class in classes {
        let [red, green, blue] = class.color;
        // Names end at a space.
        let name = class.name.replace(char::is_whitespace, "_");
        let _ = writeln!(text, "{} {name} {red} {green} {blue} 255", class.value);
    }
    text
}
