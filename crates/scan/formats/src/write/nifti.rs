//! NIfTI label maps with names and colours, as TotalSegmentator and Connectome Workbench have them: an extension of the header that
//! holds XML.

use std::fmt::Write as _;
use std::path::Path;

use labels::Class;
use volume::SourceError;
use volume::nifti::LabelWriter;

use super::LabelFile;

pub(super) fn create(path: &Path, file: &LabelFile<'_>) -> Result<LabelWriter, SourceError> {
    let header = file.source.header()?;
    let names = if file.names { xml(file.classes) } else { String::new() };
    Ok(LabelWriter::with_extension(path, &header, names.as_bytes())?)
}

fn xml(classes: &[&Class]) -> String {
    let mut text =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CaretExtension>\n<VolumeInformation Index=\"0\">\n<LabelTable>\n");
    for class in classes {
        let [red, green, blue] = class.color.map(|part| f64::from(part) / 255.0);
        // `]]>` would end the text.
        let name = class.key.replace("]]>", "]] >");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "<Label Key=\"{}\" Red=\"{red:.4}\" Green=\"{green:.4}\" Blue=\"{blue:.4}\" Alpha=\"1\"><![CDATA[{name}]]></Label>",
            class.value
        );
    }
    text.push_str("</LabelTable>\n<StudyMetaDataLinkSet></StudyMetaDataLinkSet>\n<VolumeType><![CDATA[Label]]></VolumeType>\n</VolumeInformation>\n</CaretExtension>\n");
    text
}
