// franz-go for the tests. Records are JSON objects, one a line; bytes in them are base64 ([]byte is that in Go's JSON).
//
//	client BOOTSTRAP produce TOPIC=CODEC...    the records on stdin, to each topic's partition 0
//	client BOOTSTRAP consume COUNT TOPIC...    COUNT records from the beginning of each topic
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type record struct {
	Topic     string           `json:"topic"`
	Offset    int64            `json:"offset"`
	Timestamp int64            `json:"timestamp"`
	Key       []byte           `json:"key"`
	Value     []byte           `json:"value"`
	Headers   [][2]interface{} `json:"headers"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

func read() (records []record) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var r record
		must(json.Unmarshal(lines.Bytes(), &r))
		records = append(records, r)
	}
	return records
}

func headers(r record) (all []kgo.RecordHeader) {
	for _, h := range r.Headers {
		var value []byte
		if text, there := h[1].(string); there {
			must(json.Unmarshal([]byte(strconv.Quote(text)), &value))
		}
		all = append(all, kgo.RecordHeader{Key: h[0].(string), Value: value})
	}
	return all
}

func produce(bootstrap string, topics []string) {
	records := read()
	for _, topic := range topics {
		name, codec, _ := strings.Cut(topic, "=")
		client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ProducerBatchCompression(codecs[codec]), kgo.AllowAutoTopicCreation(),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(20*time.Millisecond))
		must(err)
		for _, r := range records {
			client.Produce(context.Background(), &kgo.Record{Topic: name, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp), Headers: headers(r)},
				func(_ *kgo.Record, err error) { must(err) })
		}
		must(client.Flush(context.Background()))
		client.Close()
	}
}

func consume(bootstrap string, count int, topics []string) {
	from := map[string]map[int32]kgo.Offset{}
	for _, topic := range topics {
		from[topic] = map[int32]kgo.Offset{0: kgo.NewOffset().AtStart()}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumePartitions(from))
	must(err)
	defer client.Close()
	out := json.NewEncoder(os.Stdout)
	for left := count * len(topics); left > 0; {
		fetches := client.PollFetches(context.Background())
		must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			all := [][2]interface{}{}
			for _, h := range r.Headers {
				all = append(all, [2]interface{}{h.Key, h.Value})
			}
			must(out.Encode(record{r.Topic, r.Offset, r.Timestamp.UnixMilli(), r.Key, r.Value, all}))
		})
	}
}

func main() {
	if os.Args[2] == "produce" {
		produce(os.Args[1], os.Args[3:])
		return
	}
	count, err := strconv.Atoi(os.Args[3])
	must(err)
	consume(os.Args[1], count, os.Args[4:])
}
