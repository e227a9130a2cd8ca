//! Which class a class is in a mirror image, in which left and right change places.

use crate::{Class, Classes, LabelError};

impl Classes {
    /// The class that a class of this value is in a mirror image along x: the one that it declares as `mirror`, or that declares it;
    /// the one whose name has the other side (`left_kidney` and `right_kidney`, `kidney_l` and `kidney_r`); itself otherwise.
    ///
    /// # Errors
    /// [`LabelError::NoMirror`] when there is no such class.
    pub fn mirror_of(&self, value: u8) -> Result<u8, LabelError> {
        let Some(class) = self.of_value(value) else { return Ok(value) };
        let all = || self.groups().iter().flat_map(|group| group.classes());
        let declared_by_other = || all().find(|other| other.mirror.as_ref() == Some(&class.key)).map(|other| other.key.clone());
        let Some(mirror) = class.mirror.clone().or_else(declared_by_other).or_else(|| other_side(&class.key)) else { return Ok(value) };
        let found = all().find(|other| other.key == mirror);
        found.map(|other| other.value).ok_or_else(|| LabelError::NoMirror { key: class.key.clone(), mirror })
    }

    /// Refuses declarations of which one contradicts another.
    pub(crate) fn check_mirrors(&self) -> Result<(), LabelError> {
        for group in self.groups() {
            let declared = group.classes().iter().filter_map(|class| Some((class, class.mirror.as_ref()?)));
            for (class, mirror) in declared {
                // A class that is not there was left out; whoever mirrors is told.
                let Ok(other) = self.class(mirror) else { continue };
                let elsewhere = !group.classes().contains(other);
                let back = |third: &Class| third.key != class.key && third.mirror.as_ref() == Some(mirror);
                let disagrees = other.mirror.as_ref().is_some_and(|back| *back != class.key);
                if elsewhere || disagrees || group.classes().iter().any(back) {
                    return Err(LabelError::BadMirror { key: class.key.clone(), mirror: mirror.clone() });
                }
            }
        }
        Ok(())
    }
}

/// The name with the other side, if one of its words names a side: `left` or `right`, or `l` or `r` at an end.
fn other_side(key: &str) -> Option<String> {
    let words: Vec<&str> = key.split(['_', '-']).collect();
    let ends = |place: usize| place == 0 || place + 1 == words.len();
    let side = |(place, word): (usize, &&str)| {
        let other = match word.to_ascii_lowercase().as_str() {
            "left" => "right",
            "right" => "left",
            "l" if ends(place) => "r",
            "r" if ends(place) => "l",
            _ => return None,
        };
        let in_case = if word.chars().all(char::is_uppercase) {
            other.to_uppercase()
        } else if word.starts_with(char::is_uppercase) {
            other[..1].to_uppercase() + &other[1..]
        } else {
            other.to_owned()
        };
        Some((place, in_case))
    };
    let (place, other) = words.iter().enumerate().find_map(side)?;
    let begin: usize = words[..place].iter().map(|word| word.len() + 1).sum();
    Some(format!("{}{other}{}", &key[..begin], &key[begin + words[place].len()..]))
}

#[cfg(test)]
mod tests {
    use crate::{Classes, flare23};

    fn classes(json: &str) -> serde_json::Result<Classes> {
        serde_json::from_str(json)
    }

    fn mirrored(classes: &Classes, key: &str) -> String {
        let value = classes.class(key).unwrap().value;
        classes.key_of(classes.mirror_of(value).unwrap()).into_owned()
    }

    #[test]
    fn names_tell_left_from_right() {
        let flare = flare23::classes();
        assert_eq!(mirrored(&flare, "left_kidney"), "right_kidney");
        assert_eq!(mirrored(&flare, "right_adrenal"), "left_adrenal");
        assert_eq!(mirrored(&flare, "liver"), "liver");
        assert_eq!(flare.mirror_of(0), Ok(0));
        let text = r#"[{"group": "g", "classes": {"kidney_l": 1, "kidney_r": 2, "lung_upper_Left": 3, "lung_upper_Right": 4, "L-hip": 5,
            "R-hip": 6, "a_l_b": 7, "LEFT-eye": 8, "RIGHT-eye": 9, "bright": 10}}]"#;
        let classes = classes(text).unwrap();
        for [a, b] in [["kidney_l", "kidney_r"], ["lung_upper_Left", "lung_upper_Right"], ["L-hip", "R-hip"], ["LEFT-eye", "RIGHT-eye"]] {
            assert_eq!((mirrored(&classes, a), mirrored(&classes, b)), (b.into(), a.into()));
        }
        assert_eq!((mirrored(&classes, "a_l_b"), mirrored(&classes, "bright")), ("a_l_b".into(), "bright".into()));
    }

    #[test]
    fn a_side_without_the_other_is_refused_unless_it_is_declared() {
        let one = classes(r#"[{"group": "g", "classes": {"right_kidney": 1, "liver": 2}}]"#).unwrap();
        let error = one.mirror_of(1).unwrap_err().to_string();
        assert!(error.contains("`right_kidney` would be `left_kidney`") && error.contains("mirror: right_kidney"), "{error}");
        let itself = classes(r#"[{"group": "g", "classes": {"right_kidney": {"value": 1, "mirror": "right_kidney"}}}]"#).unwrap();
        assert_eq!(itself.mirror_of(1), Ok(1));
        // What is left out of classes is missed.
        let flare = flare23::classes();
        let kept = flare.only(flare.pattern_of(&["left_kidney", "spleen"]).unwrap());
        assert!(kept.mirror_of(13).is_err());
        assert_eq!(kept.mirror_of(3), Ok(3));
    }

    #[test]
    fn declared_pairs_hold_both_ways_and_are_written_again() {
        let text = r#"[{"group":"g","classes":{"a":{"value":1,"mirror":"b"},"b":2,"left_x":{"value":3,"mirror":"left_x"},"right_x":4}}]"#;
        let pair = classes(text).unwrap();
        assert_eq!([1, 2, 3].map(|value| pair.mirror_of(value).unwrap()), [2, 1, 3]);
        assert_eq!(serde_json::to_string(&pair).unwrap(), text);
        for bad in [
            r#"{"a": {"value": 1, "mirror": "b"}, "b": {"value": 2, "mirror": "c"}, "c": 3}"#,
            r#"{"a": {"value": 1, "mirror": "c"}, "b": {"value": 2, "mirror": "c"}, "c": 3}"#,
        ] {
            let error = classes(&format!(r#"[{{"group": "g", "classes": {bad}}}]"#)).unwrap_err().to_string();
            assert!(error.contains("cannot be the mirror image"), "{error}");
        }
        let apart = r#"[{"group": "g", "classes": {"a": {"value": 1, "mirror": "b"}}}, {"group": "h", "classes": {"b": 2}}]"#;
        assert!(classes(apart).unwrap_err().to_string().contains("same group"));
    }
}
