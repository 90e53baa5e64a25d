//! Rust values into wire values.

use std::collections::BTreeMap;
use std::fmt::Display;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde::ser::{self, Serialize};

use super::keys::KeySerializer;
use super::{Depth, ValueError};

/// Builds one [`Value`].
#[derive(Clone, Copy)]
pub(super) struct ValueSerializer {
    depth: Depth,
}

// === impl ValueSerializer ===

impl ValueSerializer {
    pub(super) fn new() -> Self {
        Self {
            depth: Depth::default(),
        }
    }

    fn enter_container(self) -> Result<Self, ValueError> {
        let depth = self.depth.enter_container()?;
        Ok(Self { depth })
    }

    fn enter_transparent(self) -> Result<Self, ValueError> {
        let depth = self.depth.enter_transparent()?;
        Ok(Self { depth })
    }

    fn list(self, length: Option<usize>) -> Result<ListBuilder, ValueError> {
        Ok(ListBuilder {
            inner: self.enter_container()?,
            // A claimed length is a hint, not a promise.
            values: Vec::with_capacity(length.unwrap_or(0).min(4096)),
        })
    }

    fn members(self) -> Result<StructBuilder, ValueError> {
        Ok(StructBuilder {
            inner: self.enter_container()?,
            fields: BTreeMap::new(),
            key: None,
        })
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn null() -> Value {
    value(Kind::NullValue(0))
}

fn number(number: f64) -> Value {
    if number.is_finite() {
        value(Kind::NumberValue(number))
    } else {
        null()
    }
}

fn one_member(name: &str, member: Value) -> Value {
    let fields = BTreeMap::from([(name.to_owned(), member)]);
    value(Kind::StructValue(Struct { fields }))
}

/// Bytes as the text they have to be.
pub(super) fn utf8(bytes: &[u8]) -> Result<String, ValueError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(ValueError::new(format_args!(
            "bytes are not UTF-8 text (first at offset {}) and calls carry no other bytes; encode \
             them as text or use a stream",
            error.valid_up_to()
        ))),
    }
}

macro_rules! serialize_numbers {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method(self, v: $type) -> Result<Value, ValueError> {
            Ok(number(v as f64))
        })*
    };
}

impl ser::Serializer for ValueSerializer {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = ListBuilder;
    type SerializeTuple = ListBuilder;
    type SerializeTupleStruct = ListBuilder;
    type SerializeTupleVariant = VariantBuilder<ListBuilder>;
    type SerializeMap = StructBuilder;
    type SerializeStruct = StructBuilder;
    type SerializeStructVariant = VariantBuilder<StructBuilder>;

    serialize_numbers! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64), serialize_u128(u128), serialize_f32(f32), serialize_f64(f64),
    }

    fn serialize_bool(self, flag: bool) -> Result<Value, ValueError> {
        Ok(value(Kind::BoolValue(flag)))
    }

    fn serialize_char(self, character: char) -> Result<Value, ValueError> {
        Ok(value(Kind::StringValue(character.into())))
    }

    fn serialize_str(self, text: &str) -> Result<Value, ValueError> {
        Ok(value(Kind::StringValue(text.to_owned())))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value, ValueError> {
        Ok(value(Kind::StringValue(utf8(bytes)?)))
    }

    fn serialize_none(self) -> Result<Value, ValueError> {
        Ok(null())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, inner: &T) -> Result<Value, ValueError> {
        inner.serialize(self.enter_transparent()?)
    }

    fn serialize_unit(self) -> Result<Value, ValueError> {
        Ok(null())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, ValueError> {
        Ok(null())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, ValueError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        inner: &T,
    ) -> Result<Value, ValueError> {
        inner.serialize(self.enter_transparent()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        inner: &T,
    ) -> Result<Value, ValueError> {
        let inner = inner.serialize(self.enter_container()?);
        let inner = inner.map_err(|error| error.in_member(variant))?;
        Ok(one_member(variant, inner))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<ListBuilder, ValueError> {
        self.list(length)
    }

    fn serialize_tuple(self, length: usize) -> Result<ListBuilder, ValueError> {
        self.list(Some(length))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        length: usize,
    ) -> Result<ListBuilder, ValueError> {
        self.list(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<VariantBuilder<ListBuilder>, ValueError> {
        let inner = self.enter_container()?.list(Some(length))?;
        Ok(VariantBuilder { variant, inner })
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<StructBuilder, ValueError> {
        self.members()
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<StructBuilder, ValueError> {
        self.members()
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<VariantBuilder<StructBuilder>, ValueError> {
        let inner = self.enter_container()?.members()?;
        Ok(VariantBuilder { variant, inner })
    }

    fn collect_str<T: Display + ?Sized>(self, text: &T) -> Result<Value, ValueError> {
        Ok(value(Kind::StringValue(text.to_string())))
    }
}

/// Collects the elements of a list.
pub(super) struct ListBuilder {
    inner: ValueSerializer,
    values: Vec<Value>,
}

// === impl ListBuilder ===

impl ListBuilder {
    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), ValueError> {
        let element = element.serialize(self.inner);
        let element = element.map_err(|error| error.in_element(self.values.len()))?;
        self.values.push(element);
        Ok(())
    }

    fn finish(self) -> Value {
        value(Kind::ListValue(ListValue {
            values: self.values,
        }))
    }
}

impl ser::SerializeSeq for ListBuilder {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), ValueError> {
        self.push(element)
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(self.finish())
    }
}

impl ser::SerializeTuple for ListBuilder {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), ValueError> {
        self.push(element)
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(self.finish())
    }
}

impl ser::SerializeTupleStruct for ListBuilder {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &T) -> Result<(), ValueError> {
        self.push(field)
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(self.finish())
    }
}

/// Collects the members of a struct or map.
pub(super) struct StructBuilder {
    inner: ValueSerializer,
    fields: BTreeMap<String, Value>,
    key: Option<String>,
}

// === impl StructBuilder ===

impl StructBuilder {
    fn insert<T: Serialize + ?Sized>(&mut self, key: String, member: &T) -> Result<(), ValueError> {
        let member = member.serialize(self.inner);
        let member = member.map_err(|error| error.in_member(&key))?;
        self.fields.insert(key, member);
        Ok(())
    }

    fn finish(self) -> Value {
        value(Kind::StructValue(Struct {
            fields: self.fields,
        }))
    }
}

impl ser::SerializeMap for StructBuilder {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        self.key = Some(key.serialize(KeySerializer::default())?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, member: &T) -> Result<(), ValueError> {
        let key = self.key.take();
        let key = key.ok_or_else(|| ValueError::new("map value serialized before its key"))?;
        self.insert(key, member)
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(self.finish())
    }
}

impl ser::SerializeStruct for StructBuilder {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        field: &T,
    ) -> Result<(), ValueError> {
        self.insert(name.to_owned(), field)
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(self.finish())
    }
}

/// Wraps what a variant carries into a struct with one member.
pub(super) struct VariantBuilder<B> {
    variant: &'static str,
    inner: B,
}

impl ser::SerializeTupleVariant for VariantBuilder<ListBuilder> {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &T) -> Result<(), ValueError> {
        let pushed = self.inner.push(field);
        pushed.map_err(|error| error.in_member(self.variant))
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(one_member(self.variant, self.inner.finish()))
    }
}

impl ser::SerializeStructVariant for VariantBuilder<StructBuilder> {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        field: &T,
    ) -> Result<(), ValueError> {
        let inserted = self.inner.insert(name.to_owned(), field);
        inserted.map_err(|error| error.in_member(self.variant))
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(one_member(self.variant, self.inner.finish()))
    }
}
