//! The deserializer behind [`super::read`]: coerces scalars, follows the path, judges keys.

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde_json::{Number, Value as Json};

use super::{ConfigProblem, Warning};

/// One value of a configuration, to be read as whatever the driver wants.
pub(super) struct Reader<'w> {
    pub value: Json,
    /// Unknown keys are warnings instead of errors.
    pub lenient: bool,
    pub warnings: &'w mut Vec<Warning>,
}

fn shown(value: &Json) -> String {
    match value {
        Json::Null => "nothing".into(),
        Json::Bool(value) => format!("the boolean {value}"),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => format!("the text `{text}`"),
        Json::Array(_) => "a list".into(),
        Json::Object(_) => "a mapping".into(),
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn expected(&self, what: &str) -> ConfigProblem {
        ConfigProblem::new(format!("expected {what}, found {}", shown(&self.value)))
    }

    fn boolean(&self) -> Result<bool, ConfigProblem> {
        match &self.value {
            Json::Bool(value) => Ok(*value),
            Json::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Ok(true),
                "false" | "no" | "off" => Ok(false),
                _ => Err(self.expected("a boolean (true or false)")),
            },
            _ => Err(self.expected("a boolean (true or false)")),
        }
    }

    fn integer(&self) -> Result<i128, ConfigProblem> {
        let found = match &self.value {
            Json::Number(number) => integer_of(number),
            Json::String(text) => integer_text(text.trim()),
            _ => None,
        };
        found.ok_or_else(|| self.expected("an integer"))
    }

    fn float(&self) -> Result<f64, ConfigProblem> {
        let found = match &self.value {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        found.ok_or_else(|| self.expected("a number"))
    }

    fn text(self) -> Result<String, ConfigProblem> {
        match self.value {
            Json::String(text) => Ok(text),
            Json::Number(number) => Ok(number.to_string()),
            Json::Bool(value) => Ok(value.to_string()),
            _ => Err(self.expected("text")),
        }
    }

    fn map<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        match self.value {
            Json::Object(map) => visitor.visit_map(Entries {
                entries: map.into_iter(),
                fields,
                lenient: self.lenient,
                warnings: self.warnings,
                current: None,
            }),
            _ => Err(self.expected("a mapping")),
        }
    }
}

fn integer_of(number: &Number) -> Option<i128> {
    if let Some(value) = number.as_i64() {
        return Some(value.into());
    }
    if let Some(value) = number.as_u64() {
        return Some(value.into());
    }
    let value = number.as_f64()?;
    (value.fract() == 0.0 && value.abs() < 9.0e15).then_some(value as i128)
}

fn integer_text(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let lower = digits.to_ascii_lowercase();
    let parsed = if let Some(hexadecimal) = lower.strip_prefix("0x") {
        i128::from_str_radix(hexadecimal, 16)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        i128::from_str_radix(octal, 8)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        i128::from_str_radix(binary, 2)
    } else if lower.starts_with(['+', '-']) {
        return None;
    } else {
        lower.parse()
    };
    parsed.ok().map(|value: i128| sign * value)
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),+ $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
            let value = self.integer()?;
            match <$type>::try_from(value) {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(ConfigProblem::new(format!(
                    "expected an integer from {} to {}, found {value}", <$type>::MIN, <$type>::MAX,
                ))),
            }
        }
    )+};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ConfigProblem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        match self.value {
            Json::Null => visitor.visit_unit(),
            Json::Bool(value) => visitor.visit_bool(value),
            Json::Number(ref number) => {
                if let Some(value) = number.as_i64() {
                    visitor.visit_i64(value)
                } else if let Some(value) = number.as_u64() {
                    visitor.visit_u64(value)
                } else {
                    visitor.visit_f64(self.float()?)
                }
            }
            Json::String(text) => visitor.visit_string(text),
            Json::Array(_) => self.deserialize_seq(visitor),
            Json::Object(_) => self.map(None, visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        visitor.visit_bool(self.boolean()?)
    }

    integers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        visitor.visit_byte_buf(self.text()?.into_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        match self.value {
            Json::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        match self.value {
            Json::Null => visitor.visit_unit(),
            _ => Err(self.expected("nothing")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        match self.value {
            Json::Array(items) => visitor.visit_seq(Items {
                items: items.into_iter().enumerate(),
                lenient: self.lenient,
                warnings: self.warnings,
            }),
            _ => Err(self.expected("a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigProblem> {
        self.map(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        self.map(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        let allowed = || format!("one of {}", variants.join(", "));
        match self.value {
            Json::String(ref text) if !variants.contains(&text.as_str()) => {
                let mut problem = self.expected(&allowed());
                problem.nearest = nearest(text, variants);
                Err(problem)
            }
            Json::String(text) => visitor.visit_enum(text.into_deserializer()),
            Json::Object(map) if map.len() == 1 => {
                let (variant, value) = map.into_iter().next().unwrap_or_default();
                visitor.visit_enum(Variant {
                    variant,
                    content: Reader {
                        value,
                        lenient: self.lenient,
                        warnings: self.warnings,
                    },
                })
            }
            _ => Err(self.expected(&allowed())),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        visitor.visit_unit()
    }
}

fn nearest(name: &str, candidates: &[&str]) -> Option<String> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| (*candidate).to_owned())
}

struct Entries<'w> {
    entries: serde_json::map::IntoIter,
    fields: Option<&'static [&'static str]>,
    lenient: bool,
    warnings: &'w mut Vec<Warning>,
    current: Option<(String, Json)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ConfigProblem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ConfigProblem> {
        for (key, value) in self.entries.by_ref() {
            if let Some(fields) = self.fields
                && !fields.contains(&key.as_str())
            {
                let problem = ConfigProblem {
                    path: vec![key.clone()],
                    message: if fields.is_empty() {
                        "unknown key; there is nothing to configure".into()
                    } else {
                        format!("unknown key; known are {}", fields.join(", "))
                    },
                    nearest: nearest(&key, fields),
                };
                if !self.lenient {
                    return Err(problem);
                }
                self.warnings.push(problem);
                continue;
            }
            let name: StringDeserializer<ConfigProblem> = key.clone().into_deserializer();
            let parsed = seed
                .deserialize(name)
                .map_err(|problem| problem.inside(key.clone()))?;
            self.current = Some((key, value));
            return Ok(Some(parsed));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ConfigProblem> {
        let (key, value) = self.current.take().unwrap_or_default();
        let before = self.warnings.len();
        let result = seed.deserialize(Reader {
            value,
            lenient: self.lenient,
            warnings: self.warnings,
        });
        for warning in &mut self.warnings[before..] {
            warning.path.insert(0, key.clone());
        }
        result.map_err(|problem| problem.inside(key))
    }
}

struct Items<'w> {
    items: std::iter::Enumerate<std::vec::IntoIter<Json>>,
    lenient: bool,
    warnings: &'w mut Vec<Warning>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ConfigProblem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ConfigProblem> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let before = self.warnings.len();
        let result = seed.deserialize(Reader {
            value,
            lenient: self.lenient,
            warnings: self.warnings,
        });
        for warning in &mut self.warnings[before..] {
            warning.path.insert(0, index.to_string());
        }
        result
            .map(Some)
            .map_err(|problem| problem.inside(index.to_string()))
    }
}

struct Variant<'w> {
    variant: String,
    content: Reader<'w>,
}

impl<'de, 'w> EnumAccess<'de> for Variant<'w> {
    type Error = ConfigProblem;
    type Variant = Reader<'w>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), ConfigProblem> {
        let name: StringDeserializer<ConfigProblem> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Reader<'_> {
    type Error = ConfigProblem;

    fn unit_variant(self) -> Result<(), ConfigProblem> {
        match self.value {
            Json::Null => Ok(()),
            _ => Err(self.expected("nothing")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, ConfigProblem> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigProblem> {
        self.map(Some(fields), visitor)
    }
}
