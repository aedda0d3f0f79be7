import gathering.agent.v1.AgentOuterClass.Agent;
import gathering.agent.v1.AgentServiceGrpc;
import gathering.agent.v1.AgentServiceOuterClass.CreateAgentRequest;
import gathering.agent.v1.SessionServiceGrpc;
import gathering.agent.v1.SessionServiceOuterClass.CreateSessionRequest;
import gathering.agent.v1.TurnOuterClass.TurnFrame;
import gathering.agent.v1.TurnServiceGrpc;
import gathering.agent.v1.TurnServiceOuterClass.StreamChatRequest;
import gathering.agent.v1.TurnServiceOuterClass.StreamChatResponse;
import gathering.gateway.v1.AuthServiceGrpc;
import gathering.gateway.v1.AuthServiceOuterClass.LoginRequest;
import gathering.gateway.v1.EventServiceGrpc;
import gathering.gateway.v1.EventServiceOuterClass.EventFilter;
import gathering.gateway.v1.EventServiceOuterClass.SubscribeRequest;
import gathering.gateway.v1.EventServiceOuterClass.SubscribeResponse;
import io.grpc.CallCredentials;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import java.net.URI;
import java.util.Iterator;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/** Log in, create an agent, chat, follow events and resume after a cut. */
public final class Client {
  public static void main(String[] arguments) {
    Map<String, String> environment = System.getenv();
    URI url = URI.create(environment.getOrDefault("GATHERING_URL", "http://127.0.0.1:8080"));
    ManagedChannelBuilder<?> builder =
        ManagedChannelBuilder.forAddress(url.getHost(), url.getPort()).proxyDetector(a -> null);
    if (!"https".equals(url.getScheme())) builder.usePlaintext();
    ManagedChannel channel = builder.build();
    try {
      LoginRequest login =
          LoginRequest.newBuilder()
              .setEmail(environment.get("GATHERING_EMAIL"))
              .setPassword(environment.get("GATHERING_PASSWORD"))
              .build();
      String token =
          AuthServiceGrpc.newBlockingStub(channel)
              .withDeadlineAfter(30, TimeUnit.SECONDS)
              .login(login)
              .getAccessToken();
      System.out.println("logged in");
      new Client(channel, new Bearer(token)).run();
    } finally {
      channel.shutdownNow();
    }
  }

  private final AgentServiceGrpc.AgentServiceBlockingStub agents;
  private final SessionServiceGrpc.SessionServiceBlockingStub sessions;
  private final TurnServiceGrpc.TurnServiceBlockingStub turns;
  private final EventServiceGrpc.EventServiceBlockingStub events;

  private Client(ManagedChannel channel, CallCredentials credentials) {
    agents = AgentServiceGrpc.newBlockingStub(channel).withCallCredentials(credentials);
    sessions = SessionServiceGrpc.newBlockingStub(channel).withCallCredentials(credentials);
    turns = TurnServiceGrpc.newBlockingStub(channel).withCallCredentials(credentials);
    events = EventServiceGrpc.newBlockingStub(channel).withCallCredentials(credentials);
  }

  private void run() {
    Agent ada = create("Ada of Java");
    Followed first = follow("start", ada.getAgentId());
    chat(ada);
    Agent grace = create("Grace of Java"); // while nobody listens
    Followed later = follow(first.cursor, grace.getAgentId());
    if (later.count != 1) throw new IllegalStateException(later.count + " events came");
    System.out.println("resumed after the cut: nothing was missed");
  }

  private Agent create(String name) {
    CreateAgentRequest request =
        CreateAgentRequest.newBuilder()
            .setAgent(Agent.newBuilder().setName(name))
            .setRequestId(UUID.randomUUID().toString()) // who repeats the call gets the same agent
            .build();
    return agents.withDeadlineAfter(30, TimeUnit.SECONDS).createAgent(request);
  }

  /** Prints an answer as it comes. The last frame says how the turn ended; else it was cut. */
  private void chat(Agent agent) {
    String session =
        sessions
            .withDeadlineAfter(30, TimeUnit.SECONDS)
            .createSession(
                CreateSessionRequest.newBuilder().setAgentId(agent.getAgentId()).build())
            .getSessionId();
    StreamChatRequest request =
        StreamChatRequest.newBuilder()
            .setSessionId(session)
            .setText("Hello, who are you?")
            .setRequestId(UUID.randomUUID().toString())
            .build();
    TurnFrame last = TurnFrame.getDefaultInstance();
    Iterator<StreamChatResponse> answers = turns.streamChat(request);
    while (answers.hasNext()) {
      last = answers.next().getFrame();
      System.out.print(last.getTextDelta().getText());
    }
    if (!last.hasCompleted()) throw new IllegalStateException("the turn ended with " + last);
    System.out.println("\nchatted");
  }

  /** Where a stream was left, and how many events had come. */
  private static final class Followed {
    String cursor;
    int count;
  }

  /** Follows events until an agent's creation is seen, then leaves as a lost connection would. */
  private Followed follow(String cursor, String agentId) {
    Followed followed = new Followed();
    followed.cursor = cursor;
    SubscribeRequest request =
        SubscribeRequest.newBuilder()
            .setCursor(cursor)
            .setFilter(EventFilter.newBuilder().addTypes("agent_created"))
            .build();
    Context.CancellableContext context = Context.current().withCancellation();
    Context before = context.attach();
    try {
      Iterator<SubscribeResponse> frames = events.subscribe(request);
      while (frames.hasNext()) {
        SubscribeResponse frame = frames.next();
        if (!frame.hasEvent()) continue;
        followed.cursor = frame.getEvent().getCursor();
        followed.count++;
        if (frame.getEvent().getEvent().getAgentCreated().getAgentId().equals(agentId)) {
          return followed;
        }
      }
      throw new IllegalStateException("the stream was cut; subscribe again with " + followed.cursor);
    } finally {
      context.detach(before);
      context.cancel(null);
    }
  }

  /** Puts the token into each call. */
  private static final class Bearer extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private final String token;

    Bearer(String token) {
      this.token = token;
    }

    @Override
    public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
      Metadata headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + token);
      applier.apply(headers);
    }

    @Override
    public void thisUsesUnstableApi() {}
  }
}
