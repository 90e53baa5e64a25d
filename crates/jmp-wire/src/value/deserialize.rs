//! Wire values into Rust values.

use std::collections::btree_map;
use std::vec;

use prost_types::Value;
use prost_types::value::Kind;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::keys::KeyDeserializer;
use super::{Depth, ValueError, exact_integer};

/// Consumes one [`Value`].
pub(super) struct ValueDeserializer {
    value: Value,
    depth: Depth,
}

// === impl ValueDeserializer ===

impl ValueDeserializer {
    pub(super) fn new(value: Value) -> Self {
        Self {
            value,
            depth: Depth::default(),
        }
    }

    fn unexpected(self, expected: &dyn de::Expected) -> ValueError {
        let found = match &self.value.kind {
            None | Some(Kind::NullValue(_)) => Unexpected::Other("null"),
            Some(Kind::BoolValue(flag)) => Unexpected::Bool(*flag),
            Some(Kind::NumberValue(number)) => match exact_integer(*number) {
                Some(integer) => Unexpected::Signed(integer),
                None => Unexpected::Float(*number),
            },
            Some(Kind::StringValue(text)) => Unexpected::Str(text),
            Some(Kind::ListValue(_)) => Unexpected::Other("a list"),
            Some(Kind::StructValue(_)) => Unexpected::Other("a struct"),
        };
        ValueError::invalid_type(found, expected)
    }

    /// The number as an integer; a fraction is an error that says so.
    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        /// Both limits are exact in a double, the upper ones are excluded.
        const I64_LOWEST: f64 = i64::MIN as f64;
        const U64_LIMIT: f64 = u64::MAX as f64;
        const I128_LOWEST: f64 = i128::MIN as f64;
        const U128_LIMIT: f64 = u128::MAX as f64;

        let Some(Kind::NumberValue(number)) = self.value.kind else {
            return Err(self.unexpected(&visitor));
        };
        if number.is_finite() && number.trunc() != number {
            return Err(ValueError::new(format_args!(
                "expected an integer, but {number} has a fraction"
            )));
        }
        if (0.0..U64_LIMIT).contains(&number) {
            visitor.visit_u64(number as u64)
        } else if (I64_LOWEST..0.0).contains(&number) {
            visitor.visit_i64(number as i64)
        } else if (0.0..U128_LIMIT).contains(&number) {
            visitor.visit_u128(number as u128)
        } else if (I128_LOWEST..0.0).contains(&number) {
            visitor.visit_i128(number as i128)
        } else {
            Err(ValueError::invalid_value(
                Unexpected::Float(number),
                &visitor,
            ))
        }
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value.kind {
            None | Some(Kind::NullValue(_)) => visitor.visit_unit(),
            Some(Kind::BoolValue(flag)) => visitor.visit_bool(flag),
            Some(Kind::NumberValue(number)) => match exact_integer(number) {
                Some(integer) => match u64::try_from(integer) {
                    Ok(integer) => visitor.visit_u64(integer),
                    Err(_) => visitor.visit_i64(integer),
                },
                None => visitor.visit_f64(number),
            },
            Some(Kind::StringValue(text)) => visitor.visit_string(text),
            Some(Kind::ListValue(_)) => self.list(visitor),
            Some(Kind::StructValue(_)) => self.members(visitor),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let Some(Kind::ListValue(list)) = self.value.kind else {
            return Err(self.unexpected(&visitor));
        };
        let length = list.values.len();
        let mut elements = Elements {
            values: list.values.into_iter(),
            index: 0,
            depth: self.depth.enter_container()?,
        };
        let result = visitor.visit_seq(&mut elements)?;
        match elements.values.len() {
            0 => Ok(result),
            left => Err(ValueError::new(format_args!(
                "expected {} elements, found {length}",
                length - left
            ))),
        }
    }

    fn members<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let Some(Kind::StructValue(members)) = self.value.kind else {
            return Err(self.unexpected(&visitor));
        };
        visitor.visit_map(Members {
            fields: members.fields.into_iter(),
            current: None,
            depth: self.depth.enter_container()?,
        })
    }
}

macro_rules! deserialize_as {
    ($target:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            self.$target(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for ValueDeserializer {
    type Error = ValueError;

    deserialize_as! { any: deserialize_any }
    deserialize_as! { integer:
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }
    deserialize_as! { list: deserialize_seq }
    deserialize_as! { members: deserialize_map }

    forward_to_deserialize_any! { bool char str string identifier }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value.kind {
            Some(Kind::NumberValue(number)) => visitor.visit_f64(number),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value.kind {
            Some(Kind::StringValue(text)) => visitor.visit_byte_buf(text.into_bytes()),
            _ => self.list(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value.kind {
            None | Some(Kind::NullValue(_)) => visitor.visit_none(),
            _ => {
                let depth = self.depth.enter_transparent()?;
                visitor.visit_some(Self { depth, ..self })
            }
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value.kind {
            None | Some(Kind::NullValue(_)) => visitor.visit_unit(),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let depth = self.depth.enter_transparent()?;
        visitor.visit_newtype_struct(Self { depth, ..self })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.list(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.list(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.value.kind {
            Some(Kind::ListValue(_)) => self.list(visitor),
            _ => self.members(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.value.kind {
            Some(Kind::StringValue(variant)) => visitor.visit_enum(Variant {
                variant,
                content: None,
            }),
            Some(Kind::StructValue(members)) if members.fields.len() == 1 => {
                let depth = self.depth.enter_container()?;
                let mut fields = members.fields.into_iter();
                match fields.next() {
                    Some((variant, value)) => visitor.visit_enum(Variant {
                        variant,
                        content: Some(Self { value, depth }),
                    }),
                    None => Err(ValueError::new("a struct with one member has none")),
                }
            }
            _ => Err(self.unexpected(
                &format!("a variant of {name}: its name, or a struct with its name as only member")
                    .as_str(),
            )),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }
}

/// Hands out the elements of a list.
struct Elements {
    values: vec::IntoIter<Value>,
    index: usize,
    depth: Depth,
}

impl<'de> SeqAccess<'de> for &mut Elements {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        let Some(value) = self.values.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        let depth = self.depth;
        let element = seed.deserialize(ValueDeserializer { value, depth });
        element.map(Some).map_err(|error| error.in_element(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

/// Hands out the members of a struct. Keys are lent, not moved: they name the place of an error.
struct Members {
    fields: btree_map::IntoIter<String, Value>,
    current: Option<(String, Value)>,
    depth: Depth,
}

impl<'de> MapAccess<'de> for Members {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ValueError> {
        self.current = self.fields.next();
        let Some((key, _)) = &self.current else {
            return Ok(None);
        };
        let result = seed.deserialize(KeyDeserializer { key });
        result.map(Some).map_err(|error| error.in_member(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ValueError> {
        let Some((key, value)) = self.current.take() else {
            return Err(ValueError::new("map value asked for before its key"));
        };
        let depth = self.depth;
        let member = seed.deserialize(ValueDeserializer { value, depth });
        member.map_err(|error| error.in_member(&key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len())
    }
}

/// An enum variant: its name, and what it carries unless it was sent as plain text.
struct Variant {
    variant: String,
    content: Option<ValueDeserializer>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), ValueError> {
        let key = KeyDeserializer { key: &self.variant };
        Ok((seed.deserialize(key)?, self))
    }
}

// === impl Variant ===

impl Variant {
    fn content<T>(
        self,
        read: impl FnOnce(ValueDeserializer) -> Result<T, ValueError>,
    ) -> Result<T, ValueError> {
        match self.content {
            Some(content) => read(content).map_err(|error| error.in_member(&self.variant)),
            None => Err(ValueError::new(format_args!(
                "variant {:?} carries data: send a struct with the variant as only member",
                self.variant
            ))),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        match self.content {
            None => Ok(()),
            Some(_) => self.content(de::Deserialize::deserialize),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, ValueError> {
        self.content(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.content(|content| content.list(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.content(|content| content.deserialize_struct("", fields, visitor))
    }
}
