// Two containers on a VLAN: who they are, what they send, and over which link.
// Usage, as root: lab [unix:/run/ovs-bridged/ovs-bridged.sock]; scripts/check-examples shows how it is built.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "example/ovsbridge"
)

const bridge, vlan = "lab", 10

var endpoints = []struct{ name, address string }{{"red", "10.0.0.1"}, {"blue", "10.0.0.2"}}

// codec lets a gRPC of before 2021, such as Debian 12's, carry messages of today's protoc-gen-go. Later ones need none.
type codec struct{}

func (codec) Marshal(v interface{}) ([]byte, error) { return proto.Marshal(v.(proto.Message)) }
func (codec) Unmarshal(data []byte, v interface{}) error {
	return proto.Unmarshal(data, v.(proto.Message))
}
func (codec) Name() string { return "proto" }

func main() {
	target := "unix:/run/ovs-bridged/ovs-bridged.sock"
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	encoding.RegisterCodec(codec{})
	if err := lab(target); err != nil {
		log.Fatal(err)
	}
	fmt.Println("cleaned up")
}

func run(command ...string) error {
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", command, err, out)
	}
	return nil
}

func lab(target string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := grpc.DialContext(ctx, target, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer conn.Close()
	api := pb.NewBridgeServiceClient(conn)

	if _, err = api.EnsureBridge(ctx, &pb.EnsureBridgeRequest{Bridge: bridge}); err != nil {
		return err
	}
	defer func() {
		_, failed := api.DestroyBridge(context.Background(), &pb.DestroyBridgeRequest{Bridge: bridge})
		if err == nil {
			err = failed
		}
	}()
	for _, endpoint := range endpoints {
		if err = run("ip", "netns", "add", endpoint.name); err != nil {
			return err
		}
		defer run("ip", "netns", "delete", endpoint.name)
		if err = makeEndpoint(ctx, api, endpoint.name, endpoint.address); err != nil {
			return err
		}
	}
	return use(ctx, api)
}

func makeEndpoint(ctx context.Context, api pb.BridgeServiceClient, name, address string) error {
	made, err := api.CreateContainerTap(ctx, &pb.CreateContainerTapRequest{Bridge: bridge, Tap: name, Netns: name, Vlan: vlan})
	if err != nil {
		return err
	}
	fmt.Printf("tap %s on %s, VLAN %d\n", made.Tap.Name, made.Tap.Bridge, made.Tap.Vlan)
	return run("ip", "-n", name, "address", "add", address+"/24", "dev", fmt.Sprintf("veth%d", made.Tap.VethIndex))
}

func use(ctx context.Context, api pb.BridgeServiceClient) error {
	addresses, err := api.WatchAddresses(ctx, &pb.WatchAddressesRequest{Bridge: bridge})
	if err != nil {
		return err
	}
	started, err := api.StartCapture(ctx, &pb.StartCaptureRequest{
		Target: &pb.StartCaptureRequest_Tap{Tap: "red"}, Filter: "icmp"})
	if err != nil {
		return err
	}
	if err := run("ip", "netns", "exec", "red", "ping", "-c", "3", "-i", "0.2", endpoints[1].address); err != nil {
		return err
	}
	if err := tellAddresses(addresses); err != nil {
		return err
	}
	if err := tellStats(ctx, api); err != nil {
		return err
	}
	stopped, err := api.StopCapture(ctx, &pb.StopCaptureRequest{Id: started.Capture.Id})
	if err != nil {
		return err
	}
	fmt.Printf("captured %d packets in %s\n", stopped.Capture.Packets, stopped.Capture.FileName)

	updated, err := api.UpdateQos(ctx, &pb.UpdateQosRequest{Tap: "blue", Qos: &pb.Qos{Rate: proto.String("10mbit")}})
	if err != nil {
		return err
	}
	fmt.Printf("towards blue %s\n", updated.Qos.ActualToEndpoint.GetRate())
	return nil
}

func tellAddresses(batches pb.BridgeService_WatchAddressesClient) error {
	awaited := map[string]bool{}
	for _, endpoint := range endpoints {
		awaited[endpoint.address] = true
	}
	for len(awaited) > 0 {
		batch, err := batches.Recv()
		if err != nil {
			return err
		}
		for _, event := range batch.Events {
			if event.Type == pb.AddressEventType_ADDRESS_EVENT_TYPE_LEARNED && awaited[event.Address.Ip] {
				fmt.Printf("address %s behind %s\n", event.Address.Ip, event.Tap)
				delete(awaited, event.Address.Ip)
			}
		}
	}
	return nil
}

func tellStats(ctx context.Context, api pb.BridgeServiceClient) error {
	ticks, err := api.WatchTapStats(ctx, &pb.WatchTapStatsRequest{
		Taps: []string{"red"}, Interval: durationpb.New(time.Second)})
	if err != nil {
		return err
	}
	for {
		tick, err := ticks.Recv()
		if err != nil {
			return err
		}
		for _, tap := range tick.Stats {
			if tap.RxBytes > 0 && tap.TxBytes > 0 {
				fmt.Printf("red received %d bytes and sent %d\n", tap.RxBytes, tap.TxBytes)
				return nil
			}
		}
	}
}
