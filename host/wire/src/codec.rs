//! The framing of messages: protobuf, but a message that cannot be read is an empty one.
//!
//! With tonic's own codec one unreadable message ends the stream, and the super could not tell a follower that sends
//! rubbish from one that went away. An empty message is `malformed` to [`convert`](crate::convert), which is a fact
//! about its sender. Buffers are small, because a super holds thousands of streams with messages of some 30 bytes.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf as _;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// No message of ours comes near it; a longer one ends its stream.
pub const MESSAGE_BYTES: usize = 4 << 10;

fn buffer() -> BufferSettings {
    BufferSettings::new(512, 8 << 10)
}

/// See the module.
#[derive(Debug)]
pub struct Codec<Out, In>(PhantomData<(Out, In)>);

impl<Out, In> Default for Codec<Out, In> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Out: Message + 'static, In: Message + Default + 'static> tonic::codec::Codec for Codec<Out, In> {
    type Encode = Out;
    type Decode = In;
    type Encoder = Writer<Out>;
    type Decoder = Reader<In>;

    fn encoder(&mut self) -> Self::Encoder {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(PhantomData)
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct Writer<Out>(PhantomData<Out>);

impl<Out: Message> Encoder for Writer<Out> {
    type Item = Out;
    type Error = Status;

    fn encode(&mut self, item: Out, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer()
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct Reader<In>(PhantomData<In>);

impl<In: Message + Default> Decoder for Reader<In> {
    type Item = In;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<In>, Status> {
        let message = In::decode(&mut *buffer).unwrap_or_default();
        // After an error the rest of the frame is still there.
        buffer.advance(buffer.remaining());
        Ok(Some(message))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer()
    }
}
